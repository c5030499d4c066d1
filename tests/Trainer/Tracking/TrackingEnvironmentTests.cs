using Moe.Tests.Configuration;
using Moe.Training.Configuration;
using Moe.Training.Hosting;
using Moe.Training.Tracking;
using NUnit.Framework;

namespace Moe.Tests.Tracking;

/// <summary>What configuration and environment say together.</summary>
internal sealed class TrackingEnvironmentTests
{
    private static readonly RunFolder Folder = new("/somewhere/2026-run");

    [Test]
    public void Nothing_is_tracked_where_nobody_asks_for_it() => Assert.That(Settings(new(), []), Is.Null);

    [Test]
    public void Configuration_counts_before_the_environment()
    {
        var variables = new Dictionary<string, string?>
        {
            ["MLFLOW_TRACKING_URI"] = "http://environment:5000/",
            ["MLFLOW_EXPERIMENT_NAME"] = "from the environment",
            ["MLFLOW_EXPERIMENT_ID"] = "12",
            ["MLFLOW_RUN_NAME"] = "named",
            ["MLFLOW_RUN_CONTEXT"] = "{\"a\":\"1\",\"mlflow.parentRunId\":\"p\"}",
            ["MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"] = "false",
        };
        var environment = Settings(new(), variables)!;
        Assert.That(environment.Target.Uri, Is.EqualTo("http://environment:5000"));
        Assert.That((environment.Experiment, environment.ExperimentId, environment.RunName, environment.ParentRunId), Is.EqualTo(("from the environment", "12", "named", "p")));
        Assert.That(environment.Tags, Is.EquivalentTo(new Dictionary<string, string> { ["a"] = "1" }));
        Assert.That(environment.MachineInterval, Is.Null);

        var tracking = new TrackingConfig
        {
            Mlflow = "https://configuration/mlflow/",
            Experiment = "mine",
            RunName = "r",
            ParentRunId = "q",
            SystemMetrics = true,
            SystemMetricsSeconds = 3,
            Tags = [new() { Key = "a", Value = "2" }],
        };
        var both = Settings(tracking, variables)!;
        Assert.That(both.Target.Uri, Is.EqualTo("https://configuration/mlflow"));
        Assert.That((both.Experiment, both.ExperimentId, both.RunName, both.ParentRunId), Is.EqualTo(("mine", (string?)null, "r", "q")));
        Assert.That(both.Tags["a"], Is.EqualTo("2"));
        Assert.That(both.MachineInterval, Is.EqualTo(TimeSpan.FromSeconds(3)));
        Assert.That(Settings(new() { Mlflow = "none" }, variables), Is.Null);
    }

    [Test]
    public void Names_default_to_the_configurations_and_the_folders()
    {
        var settings = Settings(new() { Mlflow = "http://h" }, [])!;
        Assert.That((settings.Experiment, settings.RunName), Is.EqualTo(("tiny", "2026-run")));
        Assert.That(settings.MachineInterval, Is.EqualTo(TimeSpan.FromSeconds(10)));
    }

    [TestCase("sqlite:///mlflow.db", "MLFLOW_TRACKING_URI has the scheme sqlite:, which takes MLflow's own program; nothing is tracked")]
    [TestCase("postgresql://u:hush@h/db", "MLFLOW_TRACKING_URI has the scheme postgresql:, which takes MLflow's own program; nothing is tracked")]
    [TestCase("databricks", "MLFLOW_TRACKING_URI is no URI; nothing is tracked")]
    public void Variable_that_is_for_another_tool_is_no_fault(string uri, string warning)
    {
        var environment = TrackingEnvironment.Read(name => name == "MLFLOW_TRACKING_URI" ? uri : null);
        Assert.That(environment.Uri, Is.Null);
        Assert.That(environment.Warnings, Is.EqualTo(new[] { warning }));
    }

    [Test]
    public void Odd_numbers_and_texts_of_the_environment_are_left_out_with_a_warning()
    {
        var environment = TrackingEnvironment.Read(name => name.StartsWith("MLFLOW_", StringComparison.Ordinal) && name != "MLFLOW_TRACKING_URI" ? "maybe" : null);
        Assert.That(environment.SystemMetrics, Is.Null);
        Assert.That(environment.Connection.RequestTimeout, Is.EqualTo(new MlflowConnection().RequestTimeout));
        Assert.That(environment.Warnings, Has.Count.EqualTo(9), string.Join('\n', environment.Warnings));
        Assert.That(environment.Warnings, Has.One.EqualTo("MLFLOW_HTTP_REQUEST_TIMEOUT is 'maybe', no number of at least 0.001; it is left out"));
    }

    [Test]
    public void Variables_of_the_transport_are_read()
    {
        var variables = new Dictionary<string, string?>
        {
            ["MLFLOW_TRACKING_INSECURE_TLS"] = "true",
            ["MLFLOW_TRACKING_SERVER_CERT_PATH"] = "/ca.pem",
            ["MLFLOW_TRACKING_CLIENT_CERT_PATH"] = "/me.pem",
            ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "7",
            ["MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"] = "4",
            ["MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER"] = "false",
            ["MLFLOW_WORKSPACE"] = "w",
        };
        var connection = TrackingEnvironment.Read(name => variables.GetValueOrDefault(name)).Connection;
        Assert.That((connection.InsecureTls, connection.ServerCertificateFile, connection.ClientCertificateFile, connection.Workspace), Is.EqualTo((true, "/ca.pem", "/me.pem", "w")));
        Assert.That((connection.RequestTimeout.TotalSeconds, connection.Retry.First.TotalSeconds, connection.Retry.HeedsRetryAfter), Is.EqualTo((7.0, 2.0, false)));
    }

    [Test]
    public void Certificate_that_cannot_be_read_is_named_and_costs_the_tracking_alone()
    {
        using var folder = new TrackedFolder("https://127.0.0.1:1");
        folder.Connection = folder.Connection with { ServerCertificateFile = "/nowhere/ca.pem" };
        Assert.That(folder.Open(), Is.Null);
        Assert.That(folder.Warnings.Single(), Does.Contain("MLFLOW_TRACKING_SERVER_CERT_PATH: '/nowhere/ca.pem' cannot be read"));
    }

    [TestCase("file:./mlruns", "/base/mlruns")]
    [TestCase("file:mlruns", "/base/mlruns")]
    [TestCase("./mlruns", "/base/mlruns")]
    [TestCase("/a/b c", "/a/b c")]
    [TestCase("file:///a/b%20c", "/a/b c")]
    [TestCase("file:/a", "/a")]
    [TestCase("file://localhost/a", "/a")]
    public void File_store_is_named_in_all_ways_that_mlflow_knows(string text, string folder)
    {
        var target = TrackingTarget.Parse(TrackingTarget.Anchor(text, "/base"))!;
        Assert.That(target.Folder, Is.EqualTo(folder));
        Assert.That(TrackingTarget.Parse(target.Uri), Is.EqualTo(target), "what is stored names the same folder");
    }

    [Test]
    public void File_store_of_a_configuration_is_relative_to_its_file()
    {
        using var folder = new ConfigurationFolder();
        var config = folder.Read("tracking: {mlflow: file:./mlruns}" + ConfigurationFolder.Domains).Config;
        Assert.That(TrackingTarget.Parse(config.Tracking.Mlflow!)!.Folder, Is.EqualTo(Path.Combine(folder.Path, "mlruns")));
    }

    [TestCase("http://ada:hush@h:5000", "would be stored with the run; set MLFLOW_TRACKING_USERNAME")]
    [TestCase("ftp://h", "has the scheme ftp:")]
    [TestCase("h:5000x y", "no URI")]
    [TestCase("http://h/?token=hush", "has more behind the path")]
    public void Faulty_uri_of_a_configuration_is_refused_without_its_secrets(string uri, string words)
    {
        using var folder = new ConfigurationFolder();
        var fault = folder.Refuse("run: {seed: 1}" + ConfigurationFolder.Domains, $"tracking.mlflow=\"{uri}\"").Single();
        Assert.That(fault.ToString(), Does.Contain(words).And.Not.Contain("hush"));
    }

    [Test]
    public void Tag_that_mlflow_would_refuse_is_refused_before_the_run()
    {
        using var folder = new ConfigurationFolder();
        var fault = folder.Refuse("tracking: {tags: [{key: \"a:b\", value: x}]}" + ConfigurationFolder.Domains).Single();
        Assert.That(fault.ToString(), Does.Contain("a:b").And.Contain("MLflow refuses"));
    }

    private static TrackingSettings? Settings(TrackingConfig tracking, Dictionary<string, string?> variables) => TrackingSettings.Of(
        new RunConfig { Run = new() { Name = "tiny" }, Tracking = tracking }, TrackingEnvironment.Read(name => variables.GetValueOrDefault(name)), Folder);
}
