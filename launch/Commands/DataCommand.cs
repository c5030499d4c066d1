using System.CommandLine;
using Moe.Data;
using Moe.Launch.Terminal;
using Moe.Training.Hosting;

namespace Moe.Launch.Commands;

/// <summary><c>launch data prepare</c> and <c>launch data inspect</c>: token files from texts, and what is in them.</summary>
internal static class DataCommand
{
    public static Command Create(LaunchHost host)
    {
        var command = new Command("data", "Prepares and inspects token files.");
        command.Subcommands.Add(Prepare(host));
        command.Subcommands.Add(Inspect(host));
        return command.WithExamples("launch data prepare data/shakespeare.txt -o data/shakespeare.tokens", "launch data inspect data/shakespeare.tokens");
    }

    private static Command Prepare(LaunchHost host)
    {
        var sources = new Argument<string[]>("TEXT") { Description = "Text files, or folders of them.", Arity = ArgumentArity.OneOrMore };
        var target = new Option<string>("--output", "-o") { Description = "The token folder to write; an older one is replaced.", HelpName = "DIR", Required = true };
        var command = new Command("prepare", "Turns texts into a memory-mapped token folder with an index and a checksum.");
        command.Arguments.Add(sources);
        command.Options.Add(target);
        command.SetAction(result =>
        {
            var folder = result.GetValue(target)!;
            TokenFolder.Prepare(result.GetValue(sources)!, folder);
            Describe(TokenFolder.Inspect(folder), host);
            return ExitCodes.Done;
        });
        return command.WithExamples("launch data prepare data/shakespeare.txt -o data/shakespeare.tokens", "launch data prepare books/ -o data/books.tokens");
    }

    private static Command Inspect(LaunchHost host)
    {
        var folder = new Argument<string>("FOLDER") { Description = "A folder written by launch data prepare." };
        var command = new Command("inspect", "Verifies a token folder's checksum and describes it.");
        command.Arguments.Add(folder);
        command.SetAction(result =>
        {
            Describe(TokenFolder.Inspect(result.GetValue(folder)!), host);
            return ExitCodes.Done;
        });
        return command.WithExamples("launch data inspect data/shakespeare.tokens");
    }

    private static void Describe(TokenFolderReport report, LaunchHost host)
    {
        var output = host.Screen.Output;
        output.WriteLine(MetricText.Invariant($"folder     {report.Location}"));
        output.WriteLine(MetricText.Invariant($"tokens     {MetricText.Count(report.Tokens)} ({report.Dtype}), tokenizer {report.Tokenizer}, vocabulary {report.Vocabulary}"));
        output.WriteLine(MetricText.Invariant($"texts      {report.Documents} with {MetricText.Count(report.Bytes)} bytes, {report.BytesPerToken:F2} bytes a token"));
        output.WriteLine($"sha256     {report.Sha256} (verified)");
        foreach (var document in report.Head)
        {
            output.WriteLine($"  {document.Name}  {MetricText.Count(document.Bytes)} bytes");
        }

        if (report.Documents > report.Head.Count)
        {
            output.WriteLine($"  ... and {report.Documents - report.Head.Count} more");
        }

        foreach (var line in report.Excerpt)
        {
            output.WriteLine($"  | {line}");
        }
    }
}
