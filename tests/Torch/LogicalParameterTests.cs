using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Torch;

/// <summary>What an optimizer steps.</summary>
public class LogicalParameterTests
{
    [Test]
    public void A_parameter_is_itself_wherever_its_gradient_stands_and_no_other()
    {
        using var scope = new TensorScope();
        var (value, gradient) = (Tensor.Ones([3]), Tensor.Zeros([3]));
        var parameter = new LogicalParameter("final_norm", ParameterKind.Norm, value, gradient);
        HashSet<LogicalParameter> stepped = [parameter];
        parameter.TakeGradient(Tensor.Zeros([3]));
        parameter.GradientScale = 0.5;
        Assert.That(stepped, Does.Contain(parameter));
        Assert.That(stepped, Does.Not.Contain(new LogicalParameter("final_norm", ParameterKind.Norm, value, parameter.Gradient) { GradientScale = 0.5 }));
    }
}
