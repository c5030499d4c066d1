namespace Moe.Distributed;

/// <summary>The TCP store (c10d's TCPStore) in which the ranks of Gloo and of NCCL find each other. It belongs to the launcher: a store inside a rank would die with it.</summary>
public sealed class StoreServer : IDisposable
{
    private nint _handle;

    /// <param name="port">On all interfaces; 0 for one that is free.</param>
    /// <exception cref="CommunicationException">The port is taken.</exception>
    public StoreServer(int port = 0)
    {
        try
        {
            C10dAbi.Check(C10dAbi.Serve(ref port, out _handle));
        }
        catch (TransferException e)
        {
            throw new CommunicationException($"the store could not listen on port {port}: {e.Message}");
        }

        Port = port;
    }

    /// <summary>The port that ranks connect to.</summary>
    public int Port { get; }

    /// <summary>Ends the store and its connections.</summary>
    public void Dispose()
    {
        if (_handle != 0)
        {
            C10dAbi.Check(C10dAbi.FreeStore(_handle));
            _handle = 0;
        }
    }
}
