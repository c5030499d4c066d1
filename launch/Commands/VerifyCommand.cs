using System.CommandLine;

namespace Moe.Launch.Commands;

/// <summary><c>launch verify</c>: is the configuration, spread over these ranks, the same training as on one process?</summary>
internal static class VerifyCommand
{
    public static Command Create(LaunchHost host)
    {
        var command = new Command("verify", "Trains the configuration, shrunk, on one process and on the mesh, and compares every parameter.");
        var options = new RunOptions();
        options.AddTo(command);
        command.SetAction((result, _) => RankRun.ExecuteAsync(options.Read(result, "verify"), host));
        return command.WithExamples(
            "launch verify --nodes 4",
            "launch verify --config my.yaml --nodes 2 --procs-per-node 2 --set parallel.expert_parallel=2",
            "",
            "Exit codes: 0 equal within the bounds, 3 not (the worst parameter is named), others as launch train.");
    }
}
