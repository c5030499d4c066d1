using System.Net;
using System.Net.Sockets;

namespace Moe.Distributed;

/// <summary>This rank's connection to the <see cref="StoreServer"/>.</summary>
internal sealed class StoreConnection : IDisposable
{
    public StoreConnection(string host, int port, TimeSpan timeout)
    {
        LocalAddress = AddressTowards(host, port);
        C10dAbi.Check(C10dAbi.Connect(host, port, (long)timeout.TotalMilliseconds, out var handle));
        Handle = handle;
    }

    public nint Handle { get; private set; }

    /// <summary>The address of this machine on the way to the store, where the other ranks can reach it too.</summary>
    public string LocalAddress { get; }

    /// <summary>Returns when <paramref name="size"/> ranks have called it with the same name.</summary>
    public void Meet(string name, int size) => C10dAbi.Check(C10dAbi.Meet(Handle, name, size));

    /// <summary>Writes a value that every rank can read.</summary>
    public unsafe void Set(string key, ReadOnlySpan<byte> value)
    {
        fixed (byte* bytes = value)
        {
            C10dAbi.Check(C10dAbi.SetKey(Handle, key, bytes, value.Length));
        }
    }

    /// <summary>Whether a value is there; does not wait for one.</summary>
    public bool Has(string key)
    {
        C10dAbi.Check(C10dAbi.HasKey(Handle, key, out var found));
        return found != 0;
    }

    /// <summary>A value that is there, up to a length.</summary>
    public unsafe byte[] Get(string key, int longest)
    {
        var value = new byte[longest];
        long length = longest;
        fixed (byte* bytes = value)
        {
            C10dAbi.Check(C10dAbi.GetKey(Handle, key, bytes, ref length));
        }

        return value[..(int)length];
    }

    public void Dispose()
    {
        if (Handle != 0)
        {
            C10dAbi.Check(C10dAbi.FreeStore(Handle));
            Handle = 0;
        }
    }

    // Connecting a datagram socket sends nothing; it only makes the system choose the route.
    private static string AddressTowards(string host, int port)
    {
        try
        {
            using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
            socket.Connect(host, port);
            return ((IPEndPoint)socket.LocalEndPoint!).Address.ToString();
        }
        catch (SocketException e)
        {
            throw new TransferException($"{host} cannot be reached: {e.Message}");
        }
    }
}
