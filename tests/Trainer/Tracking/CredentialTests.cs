using System.Text;
using Moe.Training.Tracking;
using NUnit.Framework;

namespace Moe.Tests.Tracking;

/// <summary>A client shows its secret to the server that it is for, and to nothing else.</summary>
internal sealed class CredentialTests
{
    private const string Secret = "s3cr3t-Passw0rd";

    private FakeMlflow _server = null!;
    private TrackedFolder _folder = null!;

    [SetUp]
    public void Start()
    {
        _server = new FakeMlflow();
        _folder = new TrackedFolder(_server.Uri);
    }

    [TearDown]
    public void Stop()
    {
        _server.Dispose();
        _folder.Dispose();
    }

    private static string Basic(string user, string password) => "Basic " + Convert.ToBase64String(Encoding.UTF8.GetBytes($"{user}:{password}"));

    private static IEnumerable<TestCaseData> Environments()
    {
        yield return new TestCaseData(new Dictionary<string, string?> { ["MLFLOW_TRACKING_USERNAME"] = "ada", ["MLFLOW_TRACKING_PASSWORD"] = Secret }, Basic("ada", Secret)).SetArgDisplayNames("password");
        yield return new TestCaseData(new Dictionary<string, string?> { ["MLFLOW_TRACKING_TOKEN"] = Secret }, "Bearer " + Secret).SetArgDisplayNames("token");
        yield return new TestCaseData(
            new Dictionary<string, string?> { ["MLFLOW_TRACKING_TOKEN"] = "other", ["MLFLOW_TRACKING_USERNAME"] = "ada", ["MLFLOW_TRACKING_PASSWORD"] = Secret }, Basic("ada", Secret)).SetArgDisplayNames("password before token");
        yield return new TestCaseData(new Dictionary<string, string?> { ["MLFLOW_TRACKING_URI"] = $"http://ada:{Secret}@127.0.0.1:1" }, Basic("ada", Secret)).SetArgDisplayNames("within the URI");
    }

    [TestCaseSource(nameof(Environments))]
    public void Every_request_brings_the_credentials_and_no_file_or_message_has_them(Dictionary<string, string?> variables, string header)
    {
        _server.Authorization = header;
        _server.Next(new Interference(500, $"your header {header} with {Secret} broke me"));
        Read(variables);
        using (var tracker = _folder.Open())
        {
            Rows.Tell(tracker, 1, 10);
            Assert.That(tracker.Finish(TrackedStatus.Finished), Is.True, string.Join('\n', _folder.Warnings));
        }

        Assert.That(_server.Requests.Select(request => request.Authorization), Is.All.EqualTo(header));
        Assert.That(_server.Store.Runs.Single().Points, Has.Count.EqualTo(20));
        AssertSecret();
    }

    [Test]
    public void Refused_credentials_are_told_of_once_and_the_right_ones_send_the_rest()
    {
        _server.Authorization = "Bearer " + Secret;
        Read(new() { ["MLFLOW_TRACKING_TOKEN"] = "wrong-" + Secret });
        using (var tracker = _folder.Open())
        {
            Rows.Tell(tracker, 1, 10);
            Assert.That(tracker.Finish(TrackedStatus.Finished), Is.False);
            Assert.That(tracker.Rest, Does.Contain("answered 401"));
        }

        Assert.That(_folder.Warnings.Single(), Does.Contain("answered 401"));
        Assert.That(_folder.Sync().Fault, Does.Contain("answered 401"));
        Read(new() { ["MLFLOW_TRACKING_TOKEN"] = Secret });
        Assert.That(_folder.Sync().Outcome, Is.EqualTo(SyncOutcome.Whole));
        Assert.That(Rows.Of(_server.Store.Runs.Single(), "train/loss"), Is.EqualTo(Rows.Losses(10)));
        AssertSecret();
    }

    [Test]
    public void Redirection_is_not_followed()
    {
        using var other = new FakeMlflow();
        _server.Always = _ => new Interference(302) { Location = other.Uri + "/login" };
        Read(new() { ["MLFLOW_TRACKING_TOKEN"] = Secret });
        using (var tracker = _folder.Open())
        {
            Assert.That(tracker.Finish(TrackedStatus.Finished), Is.False);
        }

        Assert.That(other.Requests, Is.Empty);
        Assert.That(_folder.Warnings.Single(), Does.Contain($"which leads to {other.Uri}/login"));
        AssertSecret();
    }

    [Test]
    public void Texts_of_the_records_hide_what_they_hold()
    {
        var environment = TrackingEnvironment.Read(name => name == "MLFLOW_TRACKING_TOKEN" ? Secret : null);
        Assert.That($"{environment} {environment.Connection} {environment.Connection.Credentials}", Does.Contain("Bearer").And.Not.Contain(Secret));
    }

    private void Read(Dictionary<string, string?> variables) => _folder.Connection = _folder.Connection with
    {
        Credentials = TrackingEnvironment.Read(name => variables.GetValueOrDefault(name)).Connection.Credentials,
    };

    private void AssertSecret()
    {
        Assert.That(_folder.AllText(), Does.Not.Contain(Secret));
        Assert.That(string.Join('\n', _folder.Warnings), Does.Not.Contain(Secret));
    }
}
