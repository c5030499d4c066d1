using Moe.Distributed;
using Moe.Models;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Models;

/// <summary>The parameters that the options announce are those that the model has.</summary>
public class ParameterDescriptionTests : ScopedTests
{
    [Test]
    public void Options_announce_exactly_the_parameters_of_the_model([Range(1, 12)] int trial)
    {
        var options = RandomOptions();
        using var model = new Transformer(options, new LocalDispatcher(options.Moe.Experts), seed: 1);
        Assert.That(ParameterDescription.Of(options).Select(Line), Is.EquivalentTo(Logical(model)), $"trial {trial}, {options}");
    }

    [Test]
    public void Key_names_one_parameter()
    {
        var keys = ParameterDescription.Of(RandomOptions()).Select(parameter => parameter.Key).ToList();
        Assert.That(keys, Is.Unique);
    }

    private TransformerOptions RandomOptions()
    {
        var (layers, heads, experts) = (Random.Next(1, 4), Random.Next(1, 4), Random.Next(1, 6));
        return new TransformerOptions
        {
            Layers = layers,
            Width = Random.Next(1, 9),
            Heads = 2 * heads,
            KeyValueHeads = Random.Next(2) == 0 ? heads : 2 * heads,
            HeadWidth = 2 * Random.Next(1, 4),
            SequenceLength = 4,
            Vocabulary = Random.Next(2, 20),
            DenseLayers = Random.Next(0, layers + 1),
            DenseWidth = Random.Next(1, 9),
            Norm = (NormPlacement)Random.Next(2),
            QueryKeyNorm = Random.Next(2) == 0,
            TieEmbeddings = Random.Next(2) == 0,
            Moe = new() { Experts = experts, TopK = 1, ExpertWidth = Random.Next(1, 9), SharedExperts = Random.Next(0, 3) },
        };
    }

    private static List<string> Logical(Transformer model)
    {
        using var mode = Autograd.NoGrad();
        using var scope = new TensorScope();
        return [.. from parameter in model.Parameters
                   from logical in parameter.Logical(parameter.Value)
                   select $"{logical.Key} {parameter.Kind} [{string.Join(", ", logical.Value.Shape.ToArray())}]"];
    }

    private static string Line(ParameterDescription parameter) => $"{parameter.Key} {parameter.Kind} [{string.Join(", ", parameter.Shape)}]";
}
