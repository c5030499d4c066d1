using System.Net;
using System.Security.Cryptography;
using Moe.Training.Hosting;

namespace Moe.Launch.Dashboard;

/// <summary>The live page of a command, or that there is none: started, told to the user, and gone with the command.</summary>
internal sealed class LiveDashboard : IAsyncDisposable
{
    private readonly DashboardServer? _server;
    private readonly IPAddress _address;
    private readonly string? _token;
    private readonly LaunchHost _host;

    private LiveDashboard(DashboardServer? server, IPAddress address, string? token, LaunchHost host)
    {
        _server = server;
        _address = address;
        _token = token;
        _host = host;
    }

    /// <summary>Starts what was asked for.</summary>
    /// <param name="request">Null for none.</param>
    /// <param name="runs">What may be shown.</param>
    /// <param name="host">Knows the environment.</param>
    /// <exception cref="LaunchException">It cannot be served there.</exception>
    public static async Task<LiveDashboard> StartAsync(DashboardRequest? request, RunCatalog runs, LaunchHost host)
    {
        if (request is null)
        {
            return new LiveDashboard(null, IPAddress.None, null, host);
        }

        var address = IPAddress.Parse(request.Bind);
        var given = request.Token ?? host.Variable(DashboardRequest.TokenVariable);
        var token = string.IsNullOrEmpty(given) ? IPAddress.IsLoopback(address) ? null : Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(16)) : given;
        return new LiveDashboard(await DashboardServer.StartAsync(runs, address, request.Port, token).ConfigureAwait(false), address, token, host);
    }

    /// <summary>Where the page is, the token included; null where none is served.</summary>
    /// <param name="run">The run to show; null for the list of runs.</param>
    public string? AddressOf(RunFolder? run)
    {
        if (_server is null)
        {
            return null;
        }

        var isAny = _address.Equals(IPAddress.Any) || _address.Equals(IPAddress.IPv6Any);
        var name = isAny ? Dns.GetHostName() : _address.AddressFamily == System.Net.Sockets.AddressFamily.InterNetworkV6 ? $"[{_address}]" : _address.ToString();
        var path = run is null ? "/" : "/runs/" + Uri.EscapeDataString(Path.GetFileName(run.Path));
        return $"http://{name}:{_server.Port}{path}{(_token is null ? "" : "?token=" + Uri.EscapeDataString(_token))}";
    }

    /// <summary>Tells where the page is, and how to reach it from the machine that the user sits at.</summary>
    /// <param name="run">As in <see cref="AddressOf"/>.</param>
    public void Announce(RunFolder? run)
    {
        if (_server is null)
        {
            return;
        }

        _host.Screen.Error.WriteLine($"dashboard {AddressOf(run)}");
        if (IPAddress.IsLoopback(_address) && SshLine(_host.Variable("SSH_CONNECTION"), _host.Variable("USER"), _server.Port) is { } line)
        {
            _host.Screen.Error.WriteLine($"  from your machine: {line}");
        }
    }

    public ValueTask DisposeAsync() => _server?.DisposeAsync() ?? ValueTask.CompletedTask;

    /// <summary>The command that makes the page reachable where the user's ssh comes from; null where there is no ssh.</summary>
    /// <param name="connection">SSH_CONNECTION: addresses and ports of client and server.</param>
    /// <param name="user">USER.</param>
    /// <param name="port">Of the page.</param>
    internal static string? SshLine(string? connection, string? user, int port) => connection?.Split(' ') is [_, _, var server, var serverPort]
        ? $"ssh -L {port}:127.0.0.1:{port} {(serverPort == "22" ? "" : $"-p {serverPort} ")}{(string.IsNullOrEmpty(user) ? "" : user + "@")}{server}"
        : null;
}
