using System.Net;
using System.Net.Sockets;

namespace Moe.Launch.Checks;

/// <summary>The other end of <see cref="HostsCheck"/>: <c>launch doctor --answer SECONDS</c> prints a port, takes one connection, and leaves.</summary>
internal static class AnswerCommand
{
    /// <summary>How a shell on another machine calls it, up to the number of seconds.</summary>
    public static string Line => $"'{Environment.ProcessPath}' {(IsDotnet ? $"exec '{typeof(AnswerCommand).Assembly.Location}' " : "")}doctor --answer";

    private static bool IsDotnet => Path.GetFileNameWithoutExtension(Environment.ProcessPath) == "dotnet";

    /// <summary>Answers one connection, or nobody within the limit.</summary>
    public static void Run(TextWriter output, TimeSpan limit)
    {
        using var listener = new TcpListener(IPAddress.Any, 0);
        listener.Start();
        output.WriteLine(((IPEndPoint)listener.LocalEndpoint).Port);
        output.Flush();
        try
        {
            NetworkProbe.Answer(listener, limit);
        }
        catch (Exception e) when (e is OperationCanceledException or IOException)
        {
            // Nobody came, or whoever came has left: there is nobody to tell.
        }
    }
}
