using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Threading.Channels;
using Moe.Training.Hosting;

namespace Moe.Launch.Supervision;

/// <summary>The launcher's end of the control channel: takes one connection from each rank, and from the launcher of each other node, and posts what comes over it.</summary>
/// <remarks>
/// On one machine it listens on the loopback interface, on a port that the system chooses; otherwise on all interfaces. It closes whatever does
/// not open with this run's token.
/// </remarks>
internal sealed class ControlServer : IDisposable
{
    private static readonly TimeSpan HelloPatience = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan FarewellPatience = TimeSpan.FromSeconds(3);

    // How far apart the launchers of a job may start and still all hear that there will be no run.
    private static readonly TimeSpan DismissalPatience = TimeSpan.FromSeconds(10);

    private readonly TcpListener _listener;
    private readonly ConcurrentDictionary<int, ControlChannel> _channels = new();
    private readonly ConcurrentDictionary<int, ControlChannel> _nodes = new();
    private readonly CancellationTokenSource _closing = new();
    private readonly Channel<Happening> _happenings = Channel.CreateUnbounded<Happening>();
    private readonly string _host;
    private readonly int _nodeCount;
    private readonly int _ranksPerNode;
    private readonly bool _isForLaunchers;
    private volatile OverMessage? _dismissal;
    private int _dismissed;

    /// <param name="nodes">Number of nodes.</param>
    /// <param name="ranksPerNode">Ranks of a node; other rank numbers are refused.</param>
    /// <param name="placement">Where ranks connect from, and the token where launchers share one; null for this machine.</param>
    /// <exception cref="LaunchException">The port is taken.</exception>
    public ControlServer(int nodes, int ranksPerNode, Placement? placement = null)
    {
        _nodeCount = nodes;
        _isForLaunchers = placement is LauncherPerNode;
        _ranksPerNode = ranksPerNode;
        _host = placement?.Address ?? "127.0.0.1";
        Token = (placement as LauncherPerNode)?.Token ?? Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(16));
        _listener = new TcpListener(placement is null or ThisMachine ? IPAddress.Loopback : IPAddress.Any, placement?.Port ?? 0);
        try
        {
            _listener.Start();
        }
        catch (SocketException e)
        {
            throw new LaunchException(
                ExitCodes.Preflight, $"the launcher cannot listen on port {placement?.Port}: {e.Message}", $"another port: --rdzv {_host}:PORT");
        }

        _ = AcceptAsync();
    }

    /// <summary>Address that ranks connect to, <c>host:port</c>.</summary>
    public string Address => $"{_host}:{((IPEndPoint)_listener.LocalEndpoint).Port}";

    /// <summary>The secret that a rank must open with.</summary>
    public string Token { get; }

    /// <summary>All that happens in the run: what comes over the channels, and what others post.</summary>
    public Channel<Happening> Happenings => _happenings;

    /// <summary>Sends to one rank, if it is connected.</summary>
    public void Send(int rank, ControlMessage message) => Send(_channels, rank, message);

    /// <summary>Sends to every connected rank.</summary>
    public void SendAll(ControlMessage message) => SendAll(_channels, message);

    /// <summary>Sends to the launcher of one other node, if it is connected.</summary>
    public void SendToNode(int node, ControlMessage message) => Send(_nodes, node, message);

    /// <summary>Sends to the launcher of every other node that is connected.</summary>
    public void SendToNodes(ControlMessage message) => SendAll(_nodes, message);

    /// <summary>Breaks with a rank whose machine no longer answers; <see cref="RankLeft"/> follows.</summary>
    public void Drop(int rank)
    {
        if (_channels.TryGetValue(rank, out var channel))
        {
            channel.Dispose();
        }
    }

    /// <summary>Sends the other launchers home at the end of the run, and waits until they have heard it.</summary>
    public async Task FarewellAsync(int exitCode)
    {
        SendToNodes(new OverMessage(exitCode));
        await UntilAsync(() => _nodes.IsEmpty, FarewellPatience).ConfigureAwait(false);
    }

    /// <summary>Tells the other launchers, those still to come too, that there will be no run.</summary>
    /// <param name="exitCode">What they leave with.</param>
    /// <param name="reason">For their consoles, in a few words; null where nothing is wrong.</param>
    public async Task DismissAsync(int exitCode, string? reason = null)
    {
        _dismissal = new OverMessage(exitCode, reason);
        SendToNodes(_dismissal);
        await UntilAsync(() => _nodes.IsEmpty && (_dismissed == _nodeCount - 1 || !_isForLaunchers), DismissalPatience).ConfigureAwait(false);
    }

    public void Dispose()
    {
        _closing.Cancel();
        _listener.Dispose();
        foreach (var channel in _channels.Values.Concat(_nodes.Values))
        {
            channel.Dispose();
        }
    }

    private static void Send(ConcurrentDictionary<int, ControlChannel> channels, int number, ControlMessage message)
    {
        if (channels.TryGetValue(number, out var channel))
        {
            channel.TrySend(message);
        }
    }

    private static void SendAll(ConcurrentDictionary<int, ControlChannel> channels, ControlMessage message)
    {
        foreach (var channel in channels.Values)
        {
            channel.TrySend(message);
        }
    }

    private static async Task UntilAsync(Func<bool> condition, TimeSpan patience)
    {
        for (var end = DateTime.UtcNow + patience; !condition() && DateTime.UtcNow < end;)
        {
            await Task.Delay(10).ConfigureAwait(false);
        }
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                _ = ServeAsync(await _listener.AcceptSocketAsync(_closing.Token).ConfigureAwait(false));
            }
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // Closed: the run is over.
        }
    }

    private async Task ServeAsync(Socket socket)
    {
        using var channel = new ControlChannel(socket);
        switch (await GreetAsync(channel).ConfigureAwait(false))
        {
            case HelloMessage rank when rank.Rank >= 0 && rank.Rank < _nodeCount * _ranksPerNode && IsOurs(rank.Token) && _channels.TryAdd(rank.Rank, channel):
                await ServeRankAsync(rank, channel).ConfigureAwait(false);
                break;
            case NodeHelloMessage launcher when IsOurs(launcher.Token):
                await ServeNodeAsync(launcher, channel).ConfigureAwait(false);
                break;
        }
    }

    private async Task ServeRankAsync(HelloMessage rank, ControlChannel channel)
    {
        Post(new RankSaid(rank.Rank, rank));
        while (await channel.ReceiveAsync(_closing.Token).ConfigureAwait(false) is { } message)
        {
            Post(new RankSaid(rank.Rank, message));
        }

        Post(new RankLeft(rank.Rank));
    }

    private async Task ServeNodeAsync(NodeHelloMessage launcher, ControlChannel channel)
    {
        if ((Fault(launcher) ?? (_nodes.TryAdd(launcher.Node, channel) ? null : $"two launchers say that they are node {launcher.Node}")) is { } fault)
        {
            channel.TrySend(new OverMessage(ExitCodes.Usage, fault));
            Post(new NodeRefused(launcher, fault));
            return;
        }

        Post(new NodeArrived(launcher));
        if (_dismissal is { } dismissal)
        {
            channel.TrySend(dismissal);
        }

        while (await channel.ReceiveAsync(_closing.Token).ConfigureAwait(false) is { } message)
        {
            Happening? happening = message switch
            {
                RankEndMessage ended when ended.Rank >= 0 && ended.Rank < _nodeCount * _ranksPerNode => new RankEnded(ended.Rank, ended.ExitCode),
                StopMessage stop => new StopAsked(stop.Reason),
                LeaveMessage leave => new LeaveAsked(leave.Signal, leave.Number),
                FailureMessage { Failure: var failure } => new NodeFailed(launcher.Node, failure),
                _ => null,
            };
            if (happening is not null)
            {
                Post(happening);
            }
        }

        _nodes.TryRemove(launcher.Node, out _);
        Interlocked.Increment(ref _dismissed);
        Post(new NodeLeft(launcher.Node));
    }

    private void Post(Happening happening) => _happenings.Writer.TryWrite(happening);

    private async Task<ControlMessage?> GreetAsync(ControlChannel channel)
    {
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(_closing.Token);
        patience.CancelAfter(HelloPatience);
        return await channel.ReceiveAsync(patience.Token).ConfigureAwait(false);
    }

    private bool IsOurs(string token) => CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(token), Encoding.UTF8.GetBytes(Token));

    private string? Fault(NodeHelloMessage launcher)
    {
        if (launcher.Nodes != _nodeCount || launcher.ProcessesPerNode != _ranksPerNode)
        {
            return $"the launcher of node {launcher.Node} ({launcher.Host}) was started for {launcher.Nodes} node(s) of {launcher.ProcessesPerNode} rank(s), that of node 0 for {_nodeCount} of {_ranksPerNode}";
        }

        return launcher.Node < 1 || launcher.Node >= _nodeCount ? $"a launcher ({launcher.Host}) says that it is node {launcher.Node}; nodes of this run go from 0 to {_nodeCount - 1}" : null;
    }
}
