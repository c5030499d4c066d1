using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Torch;

public class AutogradTests
{
    private TensorScope _scope = null!;

    [SetUp]
    public void Open() => _scope = new TensorScope();

    [TearDown]
    public void Close() => _scope.Dispose();

    [Test]
    public void Managed_function_has_the_gradient_that_it_computes()
    {
        var x = Tensor.From([1.0, 2.0, 3.0]);
        x.RequiresGrad = true;
        var y = new Cube().Apply(x)[0];
        Autograd.Backward(y.Multiply(2).Sum());
        Assert.That(x.Gradient!.ToArray<double>(), Is.EqualTo(new[] { 6.0, 24.0, 54.0 }));
    }

    [Test]
    public void Exception_in_a_managed_backward_arrives_as_itself()
    {
        var x = Tensor.From([1.0, 2.0]);
        x.RequiresGrad = true;
        var y = new Failing().Apply(x)[0].Sum();
        Assert.That(() => Autograd.Backward(y), Throws.TypeOf<InvalidTimeZoneException>().With.Message.EqualTo("on purpose"));
    }

    [Test]
    public void A_tensors_hook_runs_when_the_leaves_behind_it_are_whole_and_before_what_is_ahead()
    {
        var (first, second) = (Tensor.From([2.0]), Tensor.From([3.0]));
        (first.RequiresGrad, second.RequiresGrad) = (true, true);
        var between = new Cube().Apply(first)[0];
        var calls = new List<(double? First, double? Second)>();
        Autograd.OnGradient(between, () => calls.Add((first.Gradient?.Item(), second.Gradient?.Item())));

        Autograd.Backward((between * second).Sum());

        Assert.That(calls, Is.EqualTo(new[] { ((double?)null, (double?)8.0) }));
        Assert.That(first.Gradient!.Item(), Is.EqualTo(36));
    }

    [Test]
    public void Exception_in_a_hook_arrives_as_itself()
    {
        var x = Tensor.From([1.0, 2.0]);
        x.RequiresGrad = true;
        var y = new Cube().Apply(x)[0];
        Autograd.OnGradient(y, () => throw new InvalidTimeZoneException("on purpose"));
        Assert.That(() => Autograd.Backward(y.Sum()), Throws.TypeOf<InvalidTimeZoneException>().With.Message.EqualTo("on purpose"));
    }

    [Test]
    public void Saved_tensors_outlive_the_scope_of_the_forward_and_end_with_the_graph()
    {
        var before = Tensor.LiveCount;
        using (new TensorScope())
        {
            var x = Tensor.From([2.0]);
            x.RequiresGrad = true;
            Tensor y;
            using (var inner = new TensorScope())
            {
                y = inner.Keep(new Cube().Apply(x)[0]);
            }

            Autograd.Backward(y.Sum());
            Assert.That(x.Gradient!.Item(), Is.EqualTo(12));
        }

        Assert.That(Tensor.LiveCount, Is.EqualTo(before));
    }

    [Test]
    public void Saved_tensors_are_freed_as_soon_as_the_backward_has_used_them()
    {
        var x = Tensor.From([2.0, 3.0]);
        x.RequiresGrad = true;
        var before = Tensor.LiveCount;
        var y = new Cube().Apply(x)[0];
        var loss = y.Sum();
        Assert.That(Tensor.LiveCount, Is.EqualTo(before + 4), "y, loss, the saved tensor, and a product of the forward");
        Autograd.Backward(loss);
        Assert.That(Tensor.LiveCount, Is.EqualTo(before + 3));
    }

    [Test]
    public void Native_errors_carry_the_message_of_libtorch()
    {
        var x = Tensor.Zeros([2, 3]);
        Assert.That(() => x.MatMul(x), Throws.TypeOf<TorchException>().With.Message.Contains("2x3 and 2x3"));
    }

    [Test]
    public void Nothing_is_recorded_inside_NoGrad()
    {
        var x = Tensor.From([2.0]);
        x.RequiresGrad = true;
        using (Autograd.NoGrad())
        {
            Assert.That(new Cube().Apply(x)[0].RequiresGrad, Is.False);
        }

        Assert.That(new Cube().Apply(x)[0].RequiresGrad, Is.True);
    }

    private sealed class Cube : Function
    {
        private Tensor? _x;

        protected override Tensor[] Forward(Tensor[] inputs)
        {
            _x = Save(inputs[0]);
            return [inputs[0] * inputs[0] * inputs[0]];
        }

        protected override Tensor?[] Backward(Tensor?[] outputGradients) => [outputGradients[0]! * _x! * _x! * 3];
    }

    private sealed class Failing : Function
    {
        protected override Tensor[] Forward(Tensor[] inputs) => [inputs[0] * 2];

        protected override Tensor?[] Backward(Tensor?[] outputGradients) => throw new InvalidTimeZoneException("on purpose");
    }
}
