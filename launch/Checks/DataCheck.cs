using Moe.Data;
using Moe.Training.Configuration;

namespace Moe.Launch.Checks;

/// <summary>Looks at the texts of a configuration before any rank starts: are they there, and long enough?</summary>
internal static class DataCheck
{
    // The least that model.sequence_length takes.
    private const int ShortestSequence = 2;

    /// <summary>Every fault found; none where the data will do.</summary>
    public static IEnumerable<ConfigFault> Faults(ResolvedConfig resolved)
    {
        var config = resolved.Config;
        foreach (var domain in config.Data.Domains)
        {
            var (tokens, fault) = Tokens(domain);
            if (fault is not null)
            {
                yield return resolved.Fault("data.domains", $"domain {domain.Name}: {fault}");
                continue;
            }

            if (tokens == 0)
            {
                yield return resolved.Fault("data.domains", $"domain {domain.Name}: '{domain.Path}' is empty", "a text to train on");
                continue;
            }

            // A sample is a sequence and the token after it.
            var needed = config.Model.SequenceLength + 1L;
            var split = TokenSplit.Of(tokens, config.Data.EvalFraction);
            if (split.Training < needed)
            {
                yield return resolved.Fault(
                    "model.sequence_length",
                    $"model.sequence_length {config.Model.SequenceLength} is longer than the data: domain {domain.Name} ({domain.Path}) has {split.Training} training tokens of {tokens}",
                    split.Training > ShortestSequence ? $"at most {split.Training - 1}" : "a longer text");
            }
            else if (config.Train.EvalEvery > 0 && split.Evaluation < needed)
            {
                yield return resolved.Fault(
                    "data.eval_fraction",
                    $"the evaluation split of domain {domain.Name} has {split.Evaluation} tokens, fewer than model.sequence_length {config.Model.SequenceLength} + 1",
                    "a larger data.eval_fraction, or train.eval_every: 0");
            }
        }
    }

    // A text has one token a byte before it is prepared, the only tokenizer being the byte tokenizer.
    private static (long Tokens, string? Fault) Tokens(DomainConfig domain)
    {
        try
        {
            if (File.Exists(domain.Path))
            {
                return (new FileInfo(domain.Path).Length, null);
            }

            if (!Directory.Exists(domain.Path))
            {
                return (0, $"'{domain.Path}' does not exist");
            }

            if (TokenFolder.Exists(domain.Path))
            {
                using var folder = TokenFolder.Open(domain.Path);
                return (folder.Count, null);
            }

            return (new DirectoryInfo(domain.Path).EnumerateFiles("*", SearchOption.AllDirectories).Sum(file => file.Length), null);
        }
        catch (Exception e) when (e is DataException or IOException or UnauthorizedAccessException)
        {
            return (0, e.Message);
        }
    }
}
