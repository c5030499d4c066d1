using System.Net;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Extensions;

namespace Moe.Launch.Dashboard;

/// <summary>Who may read the live page: requests for a name that is this machine's, with the token where there is one.</summary>
/// <remarks>
/// Pages of other sites cannot read answers, but a name of theirs may be made to point here (DNS rebinding): such requests carry that name as their host.
/// </remarks>
/// <param name="address">What is listened on.</param>
/// <param name="token">The secret; null for none.</param>
internal sealed class DashboardAccess(IPAddress address, string? token)
{
    private const string CookieName = "moe_dashboard";

    // Looked up where a request has a name that is not known otherwise, as a lookup may take long.
    private static readonly Lazy<HashSet<string>> OwnNames = new(() => new HashSet<string>(NamesOf(Dns.GetHostName()), StringComparer.OrdinalIgnoreCase));

    /// <summary>Answers what may not pass, and says whether the request may.</summary>
    public async Task<bool> AdmitAsync(HttpContext context)
    {
        var (request, response) = (context.Request, context.Response);
        if (!IsOwnHost(request.Host.Host))
        {
            return await RefuseAsync(response, StatusCodes.Status421MisdirectedRequest, "This name is not served here.").ConfigureAwait(false);
        }

        if (!HttpMethods.IsGet(request.Method) && !HttpMethods.IsHead(request.Method))
        {
            return await RefuseAsync(response, StatusCodes.Status405MethodNotAllowed, "There is nothing to change here.").ConfigureAwait(false);
        }

        if (token is null || request.Path == DashboardServer.HealthPath)
        {
            return true;
        }

        if (Matches(request.Query["token"]))
        {
            return !request.Headers.Accept.ToString().Contains("text/html", StringComparison.Ordinal) || MoveToCookie(context);
        }

        var header = request.Headers.Authorization.ToString();
        if (Matches(request.Cookies[CookieOf(context)]) || (header.StartsWith("Bearer ", StringComparison.OrdinalIgnoreCase) && Matches(header["Bearer ".Length..])))
        {
            return true;
        }

        response.Headers.WWWAuthenticate = "Bearer";
        return await RefuseAsync(response, StatusCodes.Status401Unauthorized, "The token is missing or wrong: open the address that the launcher printed.").ConfigureAwait(false);
    }

    /// <summary>Whether a host name of a request is one of this machine: its loopback names, on other addresses also its own name, with or without its domain, and any address.</summary>
    internal bool IsOwnHost(string host)
    {
        if (IPAddress.TryParse(host.Trim('[', ']'), out var literal))
        {
            return !IPAddress.IsLoopback(address) || IPAddress.IsLoopback(literal);
        }

        return string.Equals(host, "localhost", StringComparison.OrdinalIgnoreCase)
            || (!IPAddress.IsLoopback(address) && OwnNames.Value.Contains(host));
    }

    // With the domain only as this machine's resolver knows it: in a domain of its own anyone may have a host of the same name.
    private static IEnumerable<string> NamesOf(string name)
    {
        try
        {
            var entry = Dns.GetHostEntry(name);
            return [name, entry.HostName, .. entry.Aliases];
        }
        catch (System.Net.Sockets.SocketException)
        {
            return [name];
        }
    }

    // The token leaves the address bar, and with it history and screenshots. Lax, as the address may be clicked in another page.
    private bool MoveToCookie(HttpContext context)
    {
        context.Response.Cookies.Append(CookieOf(context), token!, new CookieOptions { HttpOnly = true, SameSite = SameSiteMode.Lax, Path = "/" });
        var rest = new QueryBuilder(context.Request.Query.Where(entry => entry.Key != "token").SelectMany(entry => entry.Value, (entry, value) => KeyValuePair.Create(entry.Key, value ?? "")));

        // What begins with two slashes, or what browsers take for one, would name another site.
        var path = new PathString("/" + context.Request.Path.Value!.TrimStart('/', '\\'));
        context.Response.Redirect(path.ToUriComponent() + rest.ToQueryString().ToUriComponent());
        return false;
    }

    // Cookies know no ports: two launchers on one machine have different ones.
    private static string CookieOf(HttpContext context) => $"{CookieName}_{context.Connection.LocalPort}";

    // Hashes have one length, so the comparison's time says nothing of the token's.
    private bool Matches(string? given) => given is not null
        && CryptographicOperations.FixedTimeEquals(SHA256.HashData(Encoding.UTF8.GetBytes(given)), SHA256.HashData(Encoding.UTF8.GetBytes(token!)));

    private static async Task<bool> RefuseAsync(HttpResponse response, int status, string text)
    {
        response.StatusCode = status;
        response.ContentType = "text/plain; charset=utf-8";
        await response.WriteAsync(text + "\n").ConfigureAwait(false);
        return false;
    }
}
