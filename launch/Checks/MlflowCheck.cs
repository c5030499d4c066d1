using System.Net;
using System.Net.Http.Headers;
using System.Text;

namespace Moe.Launch.Checks;

/// <summary>The MLflow server of MLFLOW_TRACKING_URI: whether it answers, its version, and whether it lets us in. Secrets are never printed.</summary>
internal sealed class MlflowCheck : Check
{
    private const string Uri = "MLFLOW_TRACKING_URI", Token = "MLFLOW_TRACKING_TOKEN", User = "MLFLOW_TRACKING_USERNAME", Password = "MLFLOW_TRACKING_PASSWORD";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    public override string Name => "MLflow";

    public override TimeSpan Limit => TimeSpan.FromSeconds(20);

    public override IEnumerable<Finding> Examine(DoctorContext context)
    {
        if (context.Variable(Uri) is not { } given)
        {
            return [Finding.Skipped($"MLflow: {Uri} is not set")];
        }

        if (!System.Uri.TryCreate(given, UriKind.Absolute, out var uri))
        {
            return [new Finding(Verdict.Fails, $"MLflow: {Uri} is no URI", $"export {Uri}=http://host:5000, or file:///path")];
        }

        return uri.Scheme switch
        {
            "http" or "https" => Server(uri, context),
            "file" => [Finding.Works($"MLflow: files in {uri.LocalPath}")],
            _ => [new Finding(Verdict.Fails, $"MLflow: a '{uri.Scheme}' store is neither a server nor a folder", $"export {Uri}=http://host:5000, or file:///path")],
        };
    }

    private static List<Finding> Server(Uri uri, DoctorContext context)
    {
        // A password may stand in the address itself.
        var shown = uri.GetComponents(UriComponents.SchemeAndServer | UriComponents.Path, UriFormat.Unescaped).TrimEnd('/');
        using var client = new HttpClient { Timeout = Patience };
        try
        {
            using var version = Send(client, HttpMethod.Get, $"{shown}/version", Credentials(uri, context).Header);
            var text = version.IsSuccessStatusCode ? Read(version).Trim() : "";
            using var search = Send(client, HttpMethod.Get, $"{shown}/api/2.0/mlflow/experiments/search?max_results=1", Credentials(uri, context).Header);
            var by = Credentials(uri, context).Source;
            return search.StatusCode switch
            {
                HttpStatusCode.OK => [Finding.Works($"MLflow {(text.Length is > 0 and < 30 ? text : "of unknown version")} at {shown}{by}")],
                HttpStatusCode.Unauthorized or HttpStatusCode.Forbidden =>
                    [new Finding(Verdict.Fails, $"MLflow: {shown} refuses us ({(int)search.StatusCode}){by}", $"export {Token}=..., or {User} and {Password}")],
                var code => [new Finding(Verdict.Fails, $"MLflow: {shown} answers {(int)code} to a search for experiments", "is it an MLflow server, and the path right?")],
            };
        }
        catch (Exception e) when (e is HttpRequestException or TaskCanceledException)
        {
            return [new Finding(Verdict.Fails, $"MLflow: {shown} is not reached: {(e is TaskCanceledException ? $"no answer within {Patience.TotalSeconds:0} s" : e.Message)}", "is the server up? runs keep their metrics and launch mlflow sync sends them later")];
        }
    }

    private static (AuthenticationHeaderValue? Header, string Source) Credentials(Uri uri, DoctorContext context)
    {
        if (context.Variable(Token) is { } token)
        {
            return (new AuthenticationHeaderValue("Bearer", token), $" (token from {Token}, hidden)");
        }

        if (context.Variable(User) is { } user)
        {
            return (Basic($"{user}:{context.Variable(Password)}"), $" (user from {User}, password hidden)");
        }

        return uri.UserInfo.Length > 0 ? (Basic(System.Uri.UnescapeDataString(uri.UserInfo)), " (credentials from the address, hidden)") : (null, "");
    }

    private static AuthenticationHeaderValue Basic(string pair) => new("Basic", Convert.ToBase64String(Encoding.UTF8.GetBytes(pair)));

    private static HttpResponseMessage Send(HttpClient client, HttpMethod method, string address, AuthenticationHeaderValue? authorization)
    {
        using var request = new HttpRequestMessage(method, address);
        request.Headers.Authorization = authorization;
        return client.Send(request);
    }

    private static string Read(HttpResponseMessage response)
    {
        using var reader = new StreamReader(response.Content.ReadAsStream());
        return reader.ReadToEnd();
    }
}
