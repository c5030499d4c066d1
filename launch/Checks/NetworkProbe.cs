using System.Diagnostics;
using System.Net;
using System.Net.Sockets;

namespace Moe.Launch.Checks;

/// <summary>A round trip and a rate between two ends of a connection.</summary>
/// <param name="RoundTrip">Median of small messages there and back.</param>
/// <param name="BytesPerSecond">One way.</param>
internal readonly record struct NetworkRate(TimeSpan RoundTrip, double BytesPerSecond);

/// <summary>Both ends of a small measurement over TCP: echoes single bytes, then takes a stream and answers with one byte.</summary>
internal static class NetworkProbe
{
    private const int Rounds = 50;
    private const int Pieces = 128;
    private const int PieceBytes = 256 << 10;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(8);

    /// <summary>Takes one connection and answers it.</summary>
    /// <param name="listener">Started.</param>
    /// <param name="limit">How long to wait for the connection.</param>
    public static void Answer(TcpListener listener, TimeSpan limit)
    {
        using var patience = new CancellationTokenSource(limit);
        using var client = listener.AcceptTcpClientAsync(patience.Token).AsTask().GetAwaiter().GetResult();
        using var stream = Stream(client);
        var piece = new byte[PieceBytes];
        for (var round = 0; round < Rounds; round++)
        {
            stream.ReadExactly(piece, 0, 1);
            stream.Write(piece, 0, 1);
        }

        for (var i = 0; i < Pieces; i++)
        {
            stream.ReadExactly(piece);
        }

        stream.Write(piece, 0, 1);
    }

    /// <summary>Connects, and measures.</summary>
    /// <exception cref="SocketException">Nobody listens there, or no way leads there.</exception>
    /// <exception cref="IOException">The connection broke or stalled.</exception>
    public static NetworkRate Measure(IPAddress address, int port)
    {
        using var client = new TcpClient(address.AddressFamily);
        using var patience = new CancellationTokenSource(Patience);
        try
        {
            client.ConnectAsync(address, port, patience.Token).AsTask().GetAwaiter().GetResult();
        }
        catch (OperationCanceledException)
        {
            throw new SocketException((int)SocketError.TimedOut);
        }

        using var stream = Stream(client);
        var piece = new byte[PieceBytes];
        var trips = new double[Rounds];
        var clock = new Stopwatch();
        for (var round = 0; round < Rounds; round++)
        {
            clock.Restart();
            stream.Write(piece, 0, 1);
            stream.ReadExactly(piece, 0, 1);
            trips[round] = clock.Elapsed.TotalSeconds;
        }

        clock.Restart();
        for (var i = 0; i < Pieces; i++)
        {
            stream.Write(piece);
        }

        stream.ReadExactly(piece, 0, 1);
        return new NetworkRate(TimeSpan.FromSeconds(trips.Order().ElementAt(Rounds / 2)), (double)Pieces * PieceBytes / clock.Elapsed.TotalSeconds);
    }

    private static NetworkStream Stream(TcpClient client)
    {
        client.NoDelay = true;
        (client.SendTimeout, client.ReceiveTimeout) = ((int)Patience.TotalMilliseconds, (int)Patience.TotalMilliseconds);
        return client.GetStream();
    }
}
