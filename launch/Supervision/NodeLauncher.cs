using System.Diagnostics;
using System.Net.Sockets;
using Moe.Launch.Checks;
using Moe.Training.Configuration;
using Moe.Training.Hosting;

namespace Moe.Launch.Supervision;

/// <summary>
/// The launcher of a node that does not lead: starts the ranks of its node when the launcher of node 0 says so, tells it how their processes end,
/// and ends them when it says so or is gone.
/// </summary>
/// <remarks>The ranks themselves speak to the launcher of node 0, which keeps the record of the run and names what failed first.</remarks>
internal sealed class NodeLauncher
{
    private static readonly TimeSpan DialInterval = TimeSpan.FromMilliseconds(200);

    private readonly LauncherPerNode _place;
    private readonly int _nodes;
    private readonly int _ranksPerNode;
    private readonly LaunchHost _host;
    private RankProcesses _processes = RankProcesses.None;

    /// <param name="place">Which node this is, and where the launcher of node 0 is.</param>
    /// <param name="nodes">Number of nodes.</param>
    /// <param name="ranksPerNode">Ranks of a node.</param>
    /// <param name="host">The surroundings.</param>
    public NodeLauncher(LauncherPerNode place, int nodes, int ranksPerNode, LaunchHost host)
    {
        _place = place;
        _nodes = nodes;
        _ranksPerNode = ranksPerNode;
        _host = host;
    }

    private string Leader => $"{_place.Address}:{_place.Port}";

    /// <summary>Runs until the launcher of node 0 ends the run.</summary>
    /// <returns>The exit code of the run.</returns>
    /// <exception cref="LaunchException">There is no launcher of node 0, it sends this one away, or it is gone.</exception>
    public async Task<int> RunAsync()
    {
        using var channel = new ControlChannel(await DialAsync().ConfigureAwait(false));
        channel.TrySend(new NodeHelloMessage(_place.Token, _place.Node, _nodes, _ranksPerNode, Environment.ProcessId, Environment.MachineName));
        _host.Screen.Error.WriteLine($"node {_place.Node} of {_nodes} on {Environment.MachineName}: {_ranksPerNode} rank(s), led by the launcher of node 0 at {Leader}");
        using var signals = new StopSignals(
            signal => channel.TrySend(new StopMessage(signal)), (signal, number) => channel.TrySend(new LeaveMessage(signal, number)), _place.Job is not null);
        try
        {
            return await ObeyAsync(channel).ConfigureAwait(false);
        }
        finally
        {
            await _processes.KillRemainsAsync().ConfigureAwait(false);
            _processes.Dispose();
        }
    }

    // Launchers of a job start at about the same time, in any order.
    private async Task<Socket> DialAsync()
    {
        for (var clock = Stopwatch.StartNew(); ; await Task.Delay(DialInterval).ConfigureAwait(false))
        {
            try
            {
                return ControlChannel.Dial(Leader);
            }
            catch (SocketException e) when (clock.Elapsed > _host.StartPatience)
            {
                throw new LaunchException(
                    ExitCodes.Communication, $"node {_place.Node} cannot reach the launcher of node 0 at {Leader} after {_host.StartPatience.TotalSeconds:0} s: {e.Message}",
                    "its own words say whether it came up; else a firewall, or another --rdzv HOST:PORT");
            }
            catch (SocketException)
            {
                // Not yet.
            }
        }
    }

    private async Task<int> ObeyAsync(ControlChannel channel)
    {
        for (var hasStarted = false; ;)
        {
            switch (await channel.ReceiveAsync().ConfigureAwait(false))
            {
                case NodeStartMessage start:
                    hasStarted = true;
                    Start(start, channel);
                    break;
                case SignalMessage signal:
                    _processes.Signal(signal.Number);
                    break;
                case OverMessage { Reason: { } reason } over:
                    throw new LaunchException(over.ExitCode, $"node {_place.Node} was sent away by the launcher of node 0: {reason}", "what that launcher says, and the same command on every node");
                case OverMessage over:
                    return over.ExitCode;
                case null when !hasStarted:
                    throw new LaunchException(
                        ExitCodes.Communication, $"the launcher at {Leader} closed the connection to node {_place.Node} before the start",
                        "MOE_RDZV_TOKEN has to be the same on all nodes; and another run may listen there: another --rdzv HOST:PORT");
                case null:
                    throw new LaunchException(ExitCodes.Communication, $"the launcher of node 0 at {Leader} is gone; the ranks of node {_place.Node} were ended", "its own words");
            }
        }
    }

    private void Start(NodeStartMessage start, ControlChannel channel)
    {
        try
        {
            var folder = new RunFolder(start.RunFolder);
            if (!File.Exists(folder.ConfigFile))
            {
                throw new LaunchException(
                    ExitCodes.Preflight, $"node {_place.Node} ({Environment.MachineName}) does not see the run folder {folder.Path}", "--run-dir on a file system that all nodes share");
            }

            var device = ConfigReader.Read(folder.ConfigFile, []).Config.Parallel.Device;
            Preflight.Backend(start.Backend, device, _nodes * _ranksPerNode, _host);
            Preflight.Devices(device, start.Backend, _ranksPerNode, _nodes * _ranksPerNode, _host);
            var plan = new RankPlan(
                _host.RankProgram, start.Mode, start.Backend, _nodes, _ranksPerNode,
                start.Threads ?? RankPlan.ThreadsOf(_ranksPerNode, _place.Job), start.Resume, folder, start.ModeArguments)
            { Placement = _place };
            var log = TextWriter.Synchronized(new StreamWriter(folder.NodeLogFile(_place.Node), append: true) { AutoFlush = true });
            _processes = RankSpawner.Start(plan, new RankVariables(Leader, _place.Token, start.StorePort), log, (_, _) => { });
            foreach (var process in _processes.All)
            {
                _ = process.Ended.ContinueWith(ended => channel.TrySend(new RankEndMessage(process.Rank!.Value, ended.Result)), TaskScheduler.Default);
            }
        }
        catch (LaunchException e)
        {
            Report(channel, new RankFailure(_place.Node * _ranksPerNode, Step: 0, e.ExitCode, e.Message, Try: e.Remedy));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or System.ComponentModel.Win32Exception)
        {
            Report(channel, new RankFailure(
                _place.Node * _ranksPerNode, Step: 0, ExitCodes.Preflight, $"node {_place.Node} ({Environment.MachineName}) cannot start its ranks: {e.Message}"));
        }
    }

    private static void Report(ControlChannel channel, RankFailure failure) => channel.TrySend(new FailureMessage(failure));
}
