namespace Moe.Launch.Commands;

/// <summary>Values of <c>--backend</c>.</summary>
internal static class BackendNames
{
    public const string Auto = "auto", Mpi = "mpi", Gloo = "gloo", Nccl = "nccl";

    /// <summary>Whether the ranks meet in a TCP store, which the launcher keeps.</summary>
    public static bool NeedsStore(string backend) => backend is Gloo or Nccl;
}
