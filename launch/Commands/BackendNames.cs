namespace Moe.Launch.Commands;

/// <summary>Values of <c>--backend</c>.</summary>
internal static class BackendNames
{
    public const string Auto = "auto", Mpi = "mpi", Gloo = "gloo";
}
