using System.Globalization;
using System.Reflection;
using Moe.Distributed;
using Moe.Distributed.Gloo;
using Moe.Distributed.Mpi;
using Moe.Distributed.Nccl;
using Moe.Torch;
using Moe.Training.Hosting;

namespace Moe.Tests.Distributed;

/// <summary>The program that <see cref="Ranks"/> spawns once a rank: joins the job, runs the scenario, leaves.</summary>
public static class RankScenario
{
    /// <summary>First argument of the test program where it is to be a rank.</summary>
    public const string Command = "rank-scenario";

    public const int Failed = 3;
    public const int CommunicationFailed = 4;

    // mpirun ends the other ranks as soon as one has left; those that time out with it shall get to say so.
    private static readonly TimeSpan LastWords = TimeSpan.FromMilliseconds(500);

    /// <param name="arguments">The settings; then the rank, where no launcher of MPI gives it.</param>
    public static int Run(string[] arguments)
    {
        var settings = RankSettings.Parse(arguments[0]);
        var rank = int.Parse(
            arguments.Length > 1 ? arguments[1] : Environment.GetEnvironmentVariable("OMPI_COMM_WORLD_RANK")!, CultureInfo.InvariantCulture);
        using var output = new StreamWriter(settings.OutputFile(rank)) { AutoFlush = true };
        Console.SetOut(output);
        Console.SetError(output);
        TorchRuntime.Threads = 1;
        var code = Outcome(settings, rank);
        File.WriteAllText(settings.ExitFile(rank), code.ToString(CultureInfo.InvariantCulture));
        if (settings.Backend == "nccl" && code != 0)
        {
            Posix.ExitNow(code); // as a rank of a run does: CUDA's own exit may wait for what still runs on the device
        }

        return code;
    }

    private static int Outcome(RankSettings settings, int rank)
    {
        ProcessGroup? world = null;
        try
        {
            world = Join(settings, rank);
            Invoke(settings, world);
            world.Close();
            return 0;
        }
        catch (CommunicationException e)
        {
            Console.WriteLine(e);
            Thread.Sleep(settings.Backend == "mpi" ? LastWords : TimeSpan.Zero);
            return CommunicationFailed;
        }
        catch (Exception e)
        {
            Console.WriteLine(e);
            return Failed;
        }
        finally
        {
            world?.Dispose();
        }
    }

    private static ProcessGroup Join(RankSettings settings, int rank)
    {
        var timeout = TimeSpan.FromSeconds(settings.GroupTimeoutSeconds);
        return settings.Backend switch
        {
            "mpi" => MpiProcessGroup.Initialize(timeout),
            "gloo" => GlooProcessGroup.Connect(new StoreAddress("127.0.0.1", settings.StorePort), rank, settings.Size, timeout),
            "nccl" => JoinOnGpu(settings, rank, timeout),
            "single" => new SingleProcessGroup(timeout),
            _ => throw new ArgumentException($"there is no backend '{settings.Backend}'", nameof(settings)),
        };
    }

    private static NcclProcessGroup JoinOnGpu(RankSettings settings, int rank, TimeSpan timeout)
    {
        RandomTensors.Device = Device.Cuda(rank);
        CudaRuntime.Use(RandomTensors.Device);
        var trace = new CollectiveTrace();
        trace.Unanswered += failure =>
        {
            Console.WriteLine($"unanswered: {failure}");
            File.WriteAllText(settings.ExitFile(rank), CommunicationFailed.ToString(CultureInfo.InvariantCulture));
            Posix.ExitNow(CommunicationFailed);
        };
        return NcclProcessGroup.Connect(new StoreAddress("127.0.0.1", settings.StorePort), rank, settings.Size, RandomTensors.Device, timeout, trace);
    }

    private static void Invoke(RankSettings settings, ProcessGroup world)
    {
        var method = typeof(RankScenario).Assembly.GetType(settings.Type, throwOnError: true)!
            .GetMethod(settings.Method, BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic)!;
        object[] parameters = method.GetParameters().Length == 1 ? [world] : [world, settings.Arguments];
        method.Invoke(null, BindingFlags.DoNotWrapExceptions, binder: null, parameters, CultureInfo.InvariantCulture);
    }
}
