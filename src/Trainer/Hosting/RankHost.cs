using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Moe.Training.Tracking;

namespace Moe.Training.Hosting;

/// <summary>The process of a rank: a Generic Host that owns log, signals and lifetime around one <see cref="RankService"/>.</summary>
public static class RankHost
{
    /// <summary>Runs what the arguments ask for.</summary>
    /// <param name="arguments">The command line, see <see cref="RankArguments"/>.</param>
    /// <param name="variable">Environment variables by name, which say who this process is; see <see cref="RankEnvironment"/>.</param>
    /// <returns>The exit code.</returns>
    public static int Run(string[] arguments, Func<string, string?> variable)
    {
        RankArguments parsed;
        RankEnvironment rank;
        var tracking = TrackingEnvironment.Read(variable);
        try
        {
            parsed = RankArguments.Parse(arguments);
            rank = RankEnvironment.Read(variable);
        }
        catch (FormatException e)
        {
            Console.Error.WriteLine(e.Message);
            return ExitCodes.Usage;
        }

        if (rank.RunFolder is { } folder && rank.Supervisor is not null)
        {
            RankLog.Redirect(new RunFolder(folder).LogFile(rank.Rank));
        }

        using var link = SupervisorLink.Connect(rank);
        var builder = Host.CreateEmptyApplicationBuilder(new HostApplicationBuilderSettings { DisableDefaults = true });
        builder.Logging.AddSimpleConsole(console =>
        {
            console.SingleLine = true;
            console.UseUtcTimestamp = true;
            console.TimestampFormat = "yyyy-MM-ddTHH:mm:ssZ ";
        });
        builder.Services
            .AddSingleton(parsed)
            .AddSingleton(rank)
            .AddSingleton(tracking)
            .AddSingleton(link)
            .AddSingleton<IHostLifetime, RankLifetime>()
            .AddSingleton<RankService>()
            .AddHostedService(services => services.GetRequiredService<RankService>());
        using var host = builder.Build();
        var service = host.Services.GetRequiredService<RankService>();
        host.Run();
        link.Goodbye(service.ExitCode);
        return service.ExitCode;
    }
}
