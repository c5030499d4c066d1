using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Moe.Training.Tracking;

/// <summary>The transport of a client, with the certificates that the user names.</summary>
internal static class MlflowTls
{
    /// <exception cref="MlflowException">A certificate file cannot be read.</exception>
    public static SocketsHttpHandler Handler(MlflowConnection connection)
    {
        // A redirected POST would come as a GET, and credentials would go where nobody sent them.
        var handler = new SocketsHttpHandler { AllowAutoRedirect = false, PooledConnectionLifetime = TimeSpan.FromMinutes(5), ConnectTimeout = connection.RequestTimeout };
        if (connection.InsecureTls)
        {
#pragma warning disable CA5359 // what MLFLOW_TRACKING_INSECURE_TLS asks for
            handler.SslOptions.RemoteCertificateValidationCallback = (_, _, _, _) => true;
#pragma warning restore CA5359
        }
        else if (connection.ServerCertificateFile is { } authorities)
        {
            var policy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
            Read("MLFLOW_TRACKING_SERVER_CERT_PATH", authorities, policy.CustomTrustStore.ImportFromPemFile);
            handler.SslOptions.CertificateChainPolicy = policy;
        }

        if (connection.ClientCertificateFile is { } client)
        {
            Read("MLFLOW_TRACKING_CLIENT_CERT_PATH", client, file =>
                handler.SslOptions.ClientCertificates = [X509Certificate2.CreateFromPemFile(file)]);
        }

        return handler;
    }

    private static void Read(string variable, string file, Action<string> read)
    {
        try
        {
            read(file);
        }
        catch (Exception e) when (e is CryptographicException or IOException or UnauthorizedAccessException)
        {
            throw new MlflowException(MlflowFault.Denied, $"{variable}: '{file}' cannot be read: {e.Message}", inner: e);
        }
    }
}
