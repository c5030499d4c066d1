using Moe.Distributed;
using Moe.Models;
using Moe.Torch;
using Moe.Training.Checkpoints;
using Moe.Training.Configuration;
using Moe.Training.Hosting;

namespace Moe.Training;

/// <summary>A finished or stopped run, opened in one process with all its experts: for sampling and evaluation.</summary>
public sealed class TrainedRun : IDisposable
{
    private readonly DeviceMesh _mesh;

    private TrainedRun(RunConfig config, DeviceMesh mesh, Transformer model, RunPosition position)
    {
        Config = config;
        _mesh = mesh;
        Model = model;
        Position = position;
    }

    /// <summary>The run's configuration.</summary>
    public RunConfig Config { get; }

    /// <summary>With the weights of the checkpoint.</summary>
    public Transformer Model { get; }

    /// <summary>Where the run stood when the checkpoint was written.</summary>
    public RunPosition Position { get; }

    /// <summary>Loads the newest whole checkpoint of a run.</summary>
    /// <param name="runFolder">The run's folder.</param>
    /// <param name="warn">Told of checkpoints that are passed over.</param>
    /// <exception cref="CheckpointException">There is no whole checkpoint.</exception>
    /// <exception cref="ConfigException">The run's configuration cannot be read.</exception>
    public static TrainedRun Open(string runFolder, Action<string> warn)
    {
        var folder = new RunFolder(runFolder);
        if (!File.Exists(folder.ConfigFile))
        {
            throw new CheckpointException($"'{runFolder}' is no run folder: it has no config.yaml; give the folder that training printed");
        }

        var config = ConfigReader.Read(folder.ConfigFile, []).Config;
        using var checkpoint = new CheckpointReader(ResumeSource.Find(runFolder, warn));
        var mesh = new DeviceMesh(new SingleProcessGroup(TimeSpan.FromSeconds(config.Parallel.TimeoutSeconds)), 1);
        var local = config with { Parallel = config.Parallel with { ExpertParallel = 1, Dispatcher = DispatcherName.Local } };
        var model = ModelAssembly.Build(local, mesh);
        using var scope = new TensorScope();
        checkpoint.Load(StateTensor.Of(owners: null, model.Parameters)
            .Concat(model.SelectionBiases.Select(bias => new StateTensor(bias.Key, bias.Value, Written: false))));
        return new TrainedRun(config, mesh, model, checkpoint.Manifest.Position);
    }

    /// <summary>Evaluates on the whole held-out end of every domain.</summary>
    public Evaluation Evaluate()
    {
        var domains = DomainTokens.Open(Config.Data);
        try
        {
            return new Evaluator(
                Model, _mesh.Metrics, domains, Config.Model.SequenceLength, Config.Data.EvalFraction, Config.Train.MicroBatch, limit: 0).Run();
        }
        finally
        {
            foreach (var domain in domains)
            {
                domain.Tokens.Dispose();
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Model.Dispose();
        _mesh.Dispose();
    }
}
