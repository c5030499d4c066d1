using System.Net;
using System.Net.Sockets;

namespace Moe.Distributed;

/// <summary>This rank's connection to the <see cref="StoreServer"/>.</summary>
internal sealed class StoreConnection : IDisposable
{
    public StoreConnection(string host, int port, TimeSpan timeout)
    {
        LocalAddresses = AddressesTowards(host, port); // first: c10d would ask for an unknown name until its time is up
        C10dAbi.Check(C10dAbi.Connect(host, port, (long)timeout.TotalMilliseconds, out var handle));
        Handle = handle;
    }

    public nint Handle { get; private set; }

    /// <summary>Addresses of this machine on the way to the store, those of IPv4 first; not empty.</summary>
    public IReadOnlyList<IPAddress> LocalAddresses { get; }

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
    private static List<IPAddress> AddressesTowards(string host, int port)
    {
        List<IPAddress> found = [];
        SocketException? refusal = null;
        foreach (var address in Resolved(host).OrderBy(address => address.AddressFamily == AddressFamily.InterNetworkV6))
        {
            try
            {
                using var socket = new Socket(address.AddressFamily, SocketType.Dgram, ProtocolType.Udp);
                socket.Connect(address, port);
                found.Add(((IPEndPoint)socket.LocalEndPoint!).Address);
            }
            catch (SocketException e)
            {
                refusal = e; // there may be no way by this family
            }
        }

        return found.Count > 0 ? found : throw new TransferException($"{host} cannot be reached: {refusal?.Message ?? "it has no address"}");
    }

    private static IPAddress[] Resolved(string host)
    {
        try
        {
            return Dns.GetHostAddresses(host);
        }
        catch (SocketException e)
        {
            throw new TransferException($"{host} cannot be reached: {e.Message}");
        }
    }
}
