using System.CommandLine;

namespace Moe.Launch.Commands;

/// <summary><c>launch [train]</c>: trains on N nodes of P ranks.</summary>
internal static class TrainCommand
{
    public static Command Create(LaunchHost host)
    {
        var command = new Command("train", "Trains a model: one process a rank, watched until the last has ended.");
        Configure(command, host);
        return command;
    }

    /// <summary>Gives a command the options and the action of training; the root command has them too.</summary>
    public static void Configure(Command command, LaunchHost host)
    {
        var options = new RunOptions();
        var profile = new ProfileOptions(choosesSteps: true);
        options.AddTo(command);
        command.Options.Add(options.Resume);
        profile.AddTo(command);
        command.SetAction((result, _) => RankRun.ExecuteAsync(options.Read(result, "train").Profiled(profile.Read(result, host.WorkingDirectory)), host));
        command.WithExamples(
            "launch --nodes 4                                   configs/quickstart.yaml on four ranks",
            "launch --config my.yaml --nodes 2 --procs-per-node 2 --set train.steps=100",
            "launch --run-dir runs/mine --nodes 4               starts runs/mine, or continues it",
            "launch --nodes 4 --ui json > rows.jsonl            for programs",
            "launch --nodes 4 --profile trace.json              says where a step goes",
            "",
            "Ctrl-C once: finish the step, save, exit 75. Twice, or before the ranks are started: leave at once, exit 130.",
            "Exit codes: 0 done, 75 stopped and saved, others a failure: README.md has the table.");
    }
}
