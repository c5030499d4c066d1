using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Threading.Channels;
using Moe.Training.Hosting;

namespace Moe.Launch.Supervision;

/// <summary>The launcher's end of the control channel: takes one connection from each rank and posts what comes over it.</summary>
/// <remarks>It listens on the loopback interface, on a port that the system chooses, and closes whatever does not open with this run's token.</remarks>
internal sealed class ControlServer : IDisposable
{
    private static readonly TimeSpan HelloPatience = TimeSpan.FromSeconds(10);

    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly ConcurrentDictionary<int, ControlChannel> _channels = new();
    private readonly CancellationTokenSource _closing = new();
    private readonly ChannelWriter<Happening> _happenings;
    private readonly int _worldSize;

    /// <param name="worldSize">Number of ranks; other rank numbers are refused.</param>
    /// <param name="happenings">Takes <see cref="RankSaid"/> and <see cref="RankLeft"/>.</param>
    public ControlServer(int worldSize, ChannelWriter<Happening> happenings)
    {
        _worldSize = worldSize;
        _happenings = happenings;
        _listener.Start();
        _ = AcceptAsync();
    }

    /// <summary>Address that ranks connect to, <c>127.0.0.1:port</c>.</summary>
    public string Address => _listener.LocalEndpoint.ToString()!;

    /// <summary>The secret that a rank must open with.</summary>
    public string Token { get; } = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(16));

    /// <summary>Sends to one rank, if it is connected.</summary>
    public void Send(int rank, ControlMessage message)
    {
        if (_channels.TryGetValue(rank, out var channel))
        {
            channel.TrySend(message);
        }
    }

    /// <summary>Sends to every connected rank.</summary>
    public void SendAll(ControlMessage message)
    {
        foreach (var channel in _channels.Values)
        {
            channel.TrySend(message);
        }
    }

    public void Dispose()
    {
        _closing.Cancel();
        _listener.Dispose();
        foreach (var channel in _channels.Values)
        {
            channel.Dispose();
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
        if (await GreetAsync(channel).ConfigureAwait(false) is not { } hello || !_channels.TryAdd(hello.Rank, channel))
        {
            return;
        }

        _happenings.TryWrite(new RankSaid(hello.Rank, hello));
        while (await channel.ReceiveAsync(_closing.Token).ConfigureAwait(false) is { } message)
        {
            _happenings.TryWrite(new RankSaid(hello.Rank, message));
        }

        _happenings.TryWrite(new RankLeft(hello.Rank));
    }

    private async Task<HelloMessage?> GreetAsync(ControlChannel channel)
    {
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(_closing.Token);
        patience.CancelAfter(HelloPatience);
        var hello = await channel.ReceiveAsync(patience.Token).ConfigureAwait(false) as HelloMessage;
        return hello is not null
            && hello.Rank >= 0 && hello.Rank < _worldSize
            && CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(hello.Token), Encoding.UTF8.GetBytes(Token))
            ? hello
            : null;
    }
}
