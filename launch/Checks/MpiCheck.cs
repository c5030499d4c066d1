using Moe.Launch.Terminal;
using Moe.Torch.Native;

namespace Moe.Launch.Checks;

/// <summary>MPI: version, whether it starts two ranks, and whether ranks that outnumber the cores may yield.</summary>
internal sealed class MpiCheck : Check
{
    private const string Yield = "OMPI_MCA_mpi_yield_when_idle";
    private static readonly TimeSpan HelloLimit = TimeSpan.FromSeconds(10);

    public override string Name => "MPI";

    public override TimeSpan Limit => TimeSpan.FromSeconds(25);

    public override IEnumerable<Finding> Examine(DoctorContext context)
    {
        if (context.Program("mpirun") is not { } mpirun)
        {
            yield return new Finding(Verdict.Warns, "MPI: no mpirun; --backend auto takes Gloo", "make setup   (openmpi-bin, libopenmpi-dev)");
            yield break;
        }

        if (NativeFolder.Find("moe_mpi") is null)
        {
            yield return new Finding(Verdict.Warns, "MPI: libmoe_mpi.so has not been built; --backend auto takes Gloo", "make setup");
        }

        var version = ProgramRun.Of(mpirun, ["--version"], TimeSpan.FromSeconds(5));
        yield return version.Succeeded
            ? Finding.Works($"MPI: {version.FirstLine}")
            : new Finding(Verdict.Fails, $"MPI: {mpirun} --version: {version.Trouble}", "make setup, or --backend gloo");
        if (version.Succeeded)
        {
            yield return Hello(mpirun);
        }

        if (context.Variable(Yield) == "0" && (context.RanksPerNode ?? 1) > Environment.ProcessorCount)
        {
            yield return new Finding(Verdict.Warns, $"MPI: {Yield}=0 with more ranks than cores: small messages take a thousand times longer", $"unset {Yield}");
        }
    }

    // As the launcher starts ranks: more of them than slots, and also as root.
    private static Finding Hello(string mpirun)
    {
        string[] root = Environment.IsPrivilegedProcess ? ["--allow-run-as-root"] : [];
        var hello = ProgramRun.Of(mpirun, [.. root, "--oversubscribe", "--bind-to", "none", "-np", "2", "sh", "-c", "echo rank $OMPI_COMM_WORLD_RANK of $OMPI_COMM_WORLD_SIZE"], HelloLimit);
        string[] lines = [.. hello.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Order(StringComparer.Ordinal)];
        return hello.Succeeded && lines is ["rank 0 of 2", "rank 1 of 2"]
            ? Finding.Works(MetricText.Invariant($"MPI: two ranks said hello within {hello.Elapsed.TotalSeconds:F1} s"))
            : new Finding(Verdict.Fails, $"MPI: two ranks did not say hello: {(hello.Succeeded ? $"they said '{string.Join(", ", lines)}'" : hello.Trouble)}", "--backend gloo, until mpirun -np 2 hostname works");
    }
}
