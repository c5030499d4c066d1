using System.Text;
using Moe.Training.Tracking;
using NUnit.Framework;

namespace Moe.Tests.Tracking;

/// <summary>A client shows its secret to the server that it is for, and to nothing else.</summary>
internal sealed class CredentialTests : TrackedRunFixture
{
    private const string Secret = "s3cr3t-Passw0rd";

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
        Server.Authorization = header;
        Server.Next(new Interference(500, $"your header {header} with {Secret} broke me"));
        Read(variables);
        using (var tracker = Folder.Open())
        {
            Rows.Tell(tracker, 1, 10);
            Assert.That(tracker.Finish(TrackedStatus.Finished), Is.True, string.Join('\n', Folder.Warnings));
        }

        Assert.That(Server.Requests.Select(request => request.Authorization), Is.All.EqualTo(header));
        Assert.That(OnlyRun.Points, Has.Count.EqualTo(20));
        AssertSecret();
    }

    [Test]
    public void Refused_credentials_are_told_of_once_and_the_right_ones_send_the_rest()
    {
        Server.Authorization = "Bearer " + Secret;
        Read(new() { ["MLFLOW_TRACKING_TOKEN"] = "wrong-" + Secret });
        using (var tracker = Folder.Open())
        {
            Rows.Tell(tracker, 1, 10);
            Assert.That(tracker.Finish(TrackedStatus.Finished), Is.False);
            Assert.That(tracker.Rest, Does.Contain("answered 401"));
        }

        Assert.That(Folder.Warnings.Single(), Does.Contain("answered 401"));
        Assert.That(Folder.Sync().Fault, Does.Contain("answered 401"));
        Read(new() { ["MLFLOW_TRACKING_TOKEN"] = Secret });
        Assert.That(Folder.Sync().Outcome, Is.EqualTo(SyncOutcome.Whole));
        Assert.That(Rows.Of(OnlyRun, "train/loss"), Is.EqualTo(Rows.Losses(10)));
        AssertSecret();
    }

    [Test]
    public void Redirection_is_not_followed()
    {
        using var other = new FakeMlflow();
        Server.Always = _ => new Interference(302) { Location = other.Uri + "/login" };
        Read(new() { ["MLFLOW_TRACKING_TOKEN"] = Secret });
        using (var tracker = Folder.Open())
        {
            Assert.That(tracker.Finish(TrackedStatus.Finished), Is.False);
        }

        Assert.That(other.Requests, Is.Empty);
        Assert.That(Folder.Warnings.Single(), Does.Contain($"which leads to {other.Uri}/login"));
        AssertSecret();
    }

    [Test]
    public void Texts_of_the_records_hide_what_they_hold()
    {
        var environment = TrackingEnvironment.Read(name => name == "MLFLOW_TRACKING_TOKEN" ? Secret : null);
        Assert.That($"{environment} {environment.Connection} {environment.Connection.Credentials}", Does.Contain("Bearer").And.Not.Contain(Secret));
    }

    private void Read(Dictionary<string, string?> variables) => Folder.Connection = Folder.Connection with
    {
        Credentials = TrackingEnvironment.Read(name => variables.GetValueOrDefault(name)).Connection.Credentials,
    };

    private void AssertSecret()
    {
        Assert.That(Folder.AllText(), Does.Not.Contain(Secret));
        Assert.That(string.Join('\n', Folder.Warnings), Does.Not.Contain(Secret));
    }
}
