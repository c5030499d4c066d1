using System.CommandLine;
using System.Globalization;
using System.Net;
using Moe.Launch.Dashboard;
using Moe.Launch.Runs;
using Moe.Training.Hosting;

namespace Moe.Launch.Commands;

/// <summary><c>launch dashboard</c>: the live page of a folder of runs, until a signal ends it.</summary>
internal static class DashboardCommand
{
    public static Command Create(LaunchHost host)
    {
        var folder = new Argument<string?>("RUNS_DIR") { Description = "Folder of run folders, or one run folder. Default: runs/ of the project.", Arity = ArgumentArity.ZeroOrOne };
        var port = new Option<int>("--port") { Description = "TCP port; 0 for any that is free.", HelpName = "PORT", DefaultValueFactory = _ => DashboardRequest.StandardPort };
        port.Validators.Add(result => RefuseNoPort(result, "--port"));
        var bind = BindOption("--bind");
        var token = new Option<string?>("--token")
        {
            Description = $"The secret that a page needs; {DashboardRequest.TokenVariable} keeps it out of the process list. Beyond this machine one is made where none is given.",
            HelpName = "TOKEN",
        };
        var command = new Command("dashboard", "Serves the runs of a folder as live pages, with /metrics for Prometheus.");
        command.Arguments.Add(folder);
        command.Options.Add(port);
        command.Options.Add(bind);
        command.Options.Add(token);
        command.SetAction(async (result, _) =>
        {
            var runs = Path.GetFullPath(result.GetValue(folder) ?? Repository.RunsFolder(host.WorkingDirectory), host.WorkingDirectory);
            if (!Directory.Exists(runs))
            {
                throw new LaunchException(ExitCodes.Usage, $"there is no folder '{runs}'", "the folder that holds the run folders, such as runs");
            }

            var request = new DashboardRequest(result.GetValue(bind)!, result.GetValue(port), result.GetValue(token));
            var dashboard = await LiveDashboard.StartAsync(request, RunCatalog.At(runs), host).ConfigureAwait(false);
            await using var serving = dashboard.ConfigureAwait(false);
            dashboard.Announce(run: null);
            var ended = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            using var signals = new StopSignals(_ => ended.TrySetResult(), (_, number) => Environment.Exit(ExitCodes.Signalled(number)));
            await ended.Task.ConfigureAwait(false);
            return ExitCodes.Done;
        });
        return command.WithExamples(
            "launch dashboard                                    runs/ of the project, on http://127.0.0.1:5080",
            "launch dashboard runs --port 0                      on any free port",
            "launch dashboard runs --bind 0.0.0.0                for other machines, with a token");
    }

    /// <summary><c>--dashboard [PORT]</c> of commands that train.</summary>
    public static Option<int?> OptionalPort()
    {
        var option = new Option<int?>("--dashboard")
        {
            Description = $"Serves the run as a live page while it lasts, on this port (standard {DashboardRequest.StandardPort}; 0 for any that is free).",
            HelpName = "PORT",
            Arity = ArgumentArity.ZeroOrOne,
        };
        option.Validators.Add(result => RefuseNoPort(result, "--dashboard"));
        return option;
    }

    /// <summary>The address to listen on.</summary>
    public static Option<string> BindOption(string name)
    {
        var option = new Option<string>(name)
        {
            Description = "Address to serve the live page on. Beyond this machine a token is needed.",
            HelpName = "ADDRESS",
            DefaultValueFactory = _ => IPAddress.Loopback.ToString(),
        };
        option.Validators.Add(result =>
        {
            if (result.Tokens is [var token] && !IPAddress.TryParse(token.Value, out IPAddress? _))
            {
                result.AddError($"{name} takes an IP address of this machine, such as 127.0.0.1 or 0.0.0.0, not '{token.Value}'.");
            }
        });
        return option;
    }

    private static void RefuseNoPort(System.CommandLine.Parsing.OptionResult result, string name)
    {
        // What is no number is refused by the parser itself.
        if (result.Tokens is [var token] && int.TryParse(token.Value, CultureInfo.InvariantCulture, out var port) && port is < 0 or > ushort.MaxValue)
        {
            result.AddError($"{name} takes a port from 0 to {ushort.MaxValue}, not {port}.");
        }
    }
}
