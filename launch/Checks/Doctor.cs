using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Moe.Distributed;
using Moe.Distributed.Gloo;
using Moe.Launch.Terminal;
using Moe.Torch;
using Moe.Torch.Native;

namespace Moe.Launch.Checks;

/// <summary>How a check went.</summary>
internal enum Verdict
{
    /// <summary>As it should be.</summary>
    Works,

    /// <summary>Training works, but slower or with fewer choices.</summary>
    Warns,

    /// <summary>Training will not work.</summary>
    Fails,
}

/// <summary>One line of <c>launch doctor</c>.</summary>
/// <param name="Verdict">How the check went.</param>
/// <param name="Text">What was found.</param>
/// <param name="Remedy">The command that mends it; null where nothing needs to be mended.</param>
internal sealed record Finding(Verdict Verdict, string Text, string? Remedy = null);

/// <summary>Tries what training needs, one thing after the other.</summary>
internal static class Doctor
{
    private const double GigaByte = 1 << 30;
    private const double SlowGigaFlops = 20;

    /// <summary>Runs every check; a check that throws is a check that fails.</summary>
    /// <param name="host">The surroundings.</param>
    /// <param name="runsFolder">Where runs go.</param>
    public static IReadOnlyList<Finding> Examine(LaunchHost host, string runsFolder) =>
    [
        Machine(),
        NativeLibrary(),
        MatrixProduct(),
        Mpi(host),
        Gloo(),
        Disk(runsFolder),
    ];

    private static Finding Machine()
    {
        var memory = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / GigaByte;
        var text = string.Create(
            CultureInfo.InvariantCulture, $".NET {Environment.Version} on {RuntimeInformation.RuntimeIdentifier}, {Environment.ProcessorCount} cores, {memory:F1} GiB memory");
        return memory < 2 ? new Finding(Verdict.Warns, text, "4 ranks of the quickstart take about 2 GiB: fewer --nodes") : new Finding(Verdict.Works, text);
    }

    private static Finding NativeLibrary()
    {
        if (NativeFolder.Find("moe_torch") is not { } path)
        {
            return new Finding(Verdict.Fails, "the native library libmoe_torch.so has not been built", "make setup");
        }

        try
        {
            return new Finding(Verdict.Works, $"libtorch {TorchRuntime.Version} through {path}");
        }
        catch (Exception e) when (IsNative(e))
        {
            return new Finding(Verdict.Fails, $"{path} does not load: {FirstLine(e)}", "make setup");
        }
    }

    // Debian's libtorch takes whatever BLAS there is; the reference BLAS is 50 times slower than OpenBLAS. So measure.
    private static Finding MatrixProduct()
    {
        const int Size = 512;
        try
        {
            using var scope = new TensorScope();
            using var noGradient = Autograd.NoGrad();
            var a = Tensor.Ones([Size, Size]);
            var best = TimeSpan.MaxValue;
            for (var i = 0; i < 4; i++)
            {
                var clock = Stopwatch.StartNew();
                a.MatMul(a);
                best = clock.Elapsed < best ? clock.Elapsed : best;
            }

            var speed = 2.0 * Size * Size * Size / best.TotalSeconds / 1e9;
            var text = string.Create(CultureInfo.InvariantCulture, $"float32 matrix product: {speed:F0} GFLOP/s");
            return speed < SlowGigaFlops ? new Finding(Verdict.Warns, text + ", slow: is OpenBLAS installed?", "make setup   (libopenblas0-pthread)") : new Finding(Verdict.Works, text);
        }
        catch (Exception e) when (IsNative(e))
        {
            return new Finding(Verdict.Fails, $"float32 matrix product: {FirstLine(e)}", "make setup");
        }
    }

    private static Finding Mpi(LaunchHost host)
    {
        var mpirun = Executables.Find("mpirun", host.Variable);
        var library = NativeFolder.Find("moe_mpi");
        return (mpirun, library) switch
        {
            (null, _) => new Finding(Verdict.Warns, "MPI: no mpirun; --backend auto takes Gloo", "make setup   (openmpi-bin, libopenmpi-dev)"),
            (_, null) => new Finding(Verdict.Warns, "MPI: libmoe_mpi.so has not been built; --backend auto takes Gloo", "make setup"),
            _ => new Finding(Verdict.Works, $"MPI: {Version(mpirun)}"),
        };
    }

    private static Finding Gloo()
    {
        try
        {
            using var store = new StoreServer();
            return new Finding(Verdict.Works, $"Gloo: its store listens (port {store.Port})");
        }
        catch (Exception e) when (IsNative(e) || e is CommunicationException)
        {
            return new Finding(Verdict.Fails, $"Gloo: its store does not start: {FirstLine(e)}", "make setup");
        }
    }

    private static Finding Disk(string runsFolder)
    {
        try
        {
            Directory.CreateDirectory(runsFolder);
            var probe = Path.Combine(runsFolder, $".probe-{Environment.ProcessId}");
            File.WriteAllText(probe, "");
            File.Delete(probe);
            var free = new DriveInfo(runsFolder).AvailableFreeSpace / GigaByte;
            var text = $"{runsFolder} can be written, {MetricText.Invariant($"{free:F1}")} GiB free";
            return free < 1 ? new Finding(Verdict.Warns, text, "train.keep_checkpoints=1, or another --run-dir") : new Finding(Verdict.Works, text);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new Finding(Verdict.Fails, $"{runsFolder} cannot be written: {e.Message}", "--run-dir DIR");
        }
    }

    private static string Version(string mpirun)
    {
        using var process = Process.Start(new ProcessStartInfo(mpirun, ["--version"]) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        return process.StandardOutput.ReadLine() ?? mpirun;
    }

    private static bool IsNative(Exception e) =>
        e is TorchException or DllNotFoundException or EntryPointNotFoundException or TypeInitializationException;

    private static string FirstLine(Exception e) => (e.InnerException ?? e).Message.Split('\n')[0];
}
