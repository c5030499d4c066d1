using System.Globalization;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;

namespace Moe.Training.Hosting;

/// <summary>One end of the control channel: JSON lines over a connected TCP socket, both ways at once.</summary>
/// <remarks>Any thread may send; one thread (or task) receives.</remarks>
public sealed class ControlChannel : IDisposable
{
    // A machine that lost its power closes no connection: after so many seconds of silence it is asked, and counts as gone when it has
    // left three questions unanswered.
    private const int SilenceSeconds = 10, QuestionSeconds = 5, Questions = 3;

    private readonly Socket _socket;
    private readonly StreamReader _reader;
    private readonly Lock _sending = new();

    /// <param name="socket">A connected stream socket; the channel owns it.</param>
    public ControlChannel(Socket socket)
    {
        socket.NoDelay = true;
        socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime, SilenceSeconds);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveInterval, QuestionSeconds);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveRetryCount, Questions);
        _socket = socket;
        _reader = new StreamReader(new NetworkStream(socket, ownsSocket: true), Encoding.UTF8);
    }

    /// <summary>Connects to a launcher.</summary>
    /// <param name="address"><c>host:port</c>, the host by name or by number.</param>
    /// <exception cref="SocketException">It cannot be reached.</exception>
    /// <exception cref="FormatException">The address is not of that form.</exception>
    public static Socket Dial(string address)
    {
        var colon = address.LastIndexOf(':');
        if (colon <= 0 || !int.TryParse(address.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var port) || port > ushort.MaxValue)
        {
            throw new FormatException($"'{address}' is not host:port");
        }

        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp);
        try
        {
            socket.Connect(address[..colon], port);
            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Sends one message.</summary>
    /// <returns>False where the other end is gone.</returns>
    public bool TrySend(ControlMessage message)
    {
        var json = JsonSerializer.SerializeToUtf8Bytes(message, ControlJson.Default.ControlMessage);
        byte[] line = [.. json, (byte)'\n'];
        lock (_sending)
        {
            try
            {
                // A blocking send may still take only a part where the buffer is full.
                for (var sent = 0; sent < line.Length;)
                {
                    sent += _socket.Send(line.AsSpan(sent));
                }

                return true;
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                return false;
            }
        }
    }

    /// <summary>Waits for the next message on the calling thread.</summary>
    /// <returns>The message, or null where the other end is gone or does not speak this protocol.</returns>
    public ControlMessage? Receive()
    {
        try
        {
            return Parse(_reader.ReadLine());
        }
        catch (Exception e) when (IsBroken(e))
        {
            return null;
        }
    }

    /// <inheritdoc cref="Receive"/>
    public async Task<ControlMessage?> ReceiveAsync(CancellationToken cancellation = default)
    {
        try
        {
            return Parse(await _reader.ReadLineAsync(cancellation).ConfigureAwait(false));
        }
        catch (Exception e) when (IsBroken(e))
        {
            return null;
        }
    }

    /// <summary>Closes the connection; what was sent still arrives.</summary>
    public void Dispose() => _reader.Dispose();

    private static ControlMessage? Parse(string? line) =>
        line is null ? null : JsonSerializer.Deserialize(line, ControlJson.Default.ControlMessage);

    private static bool IsBroken(Exception e) =>
        e is IOException or SocketException or ObjectDisposedException or JsonException or NotSupportedException or OperationCanceledException;
}
