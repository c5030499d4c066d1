using System.Net.Sockets;

namespace Moe.Launch.Checks;

/// <summary>Recognises that a port could not be listened on because another program does.</summary>
internal static class PortFault
{
    /// <summary>Whether this is what the exception, or one inside it, says.</summary>
    public static bool IsOne(Exception exception)
    {
        for (var e = exception; e is not null; e = e.InnerException)
        {
            if (e is SocketException { SocketErrorCode: SocketError.AddressAlreadyInUse })
            {
                return true;
            }
        }

        return false;
    }
}
