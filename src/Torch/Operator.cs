using System.Runtime.CompilerServices;
using System.Text;
using Moe.Torch.Native;

namespace Moe.Torch;

/// <summary>An argument of an <see cref="Operator"/>; the shim fits it to the operator's schema.</summary>
public readonly struct Argument
{
    internal readonly ArgumentTag Tag;
    internal readonly long Bits;
    internal readonly object? List;

    private Argument(ArgumentTag tag, long bits, object? list = null)
    {
        Tag = tag;
        Bits = bits;
        List = list;
    }

    /// <summary>Absent: for optional arguments before ones that are given.</summary>
    public static Argument None => default;

    public static implicit operator Argument(Tensor? value) => value is null ? None : new(ArgumentTag.Tensor, value.LiveHandle);

    public static implicit operator Argument(long value) => new(ArgumentTag.Int, value);

    public static implicit operator Argument(double value) => new(ArgumentTag.Double, BitConverter.DoubleToInt64Bits(value));

    public static implicit operator Argument(bool value) => new(ArgumentTag.Bool, value ? 1 : 0);

    public static implicit operator Argument(DType value) => new(ArgumentTag.Int, (long)value);

    public static implicit operator Argument(long[] value) => new(ArgumentTag.IntList, value.Length, value);

    public static implicit operator Argument(Tensor[] value) => new(ArgumentTag.TensorList, value.Length, value);

    public static implicit operator Argument(string value) => new(ArgumentTag.String, Encoding.UTF8.GetByteCount(value), value);
}

/// <summary>
/// One operator of libtorch, found once by its schema's name and called through the dispatcher: the way to every operator of any
/// version of the library. Trailing arguments may be left out where the schema has defaults for them.
/// </summary>
/// <param name="name">Qualified, as in <c>aten::add</c>.</param>
/// <param name="overload">As in <c>Tensor</c> of <c>aten::add.Tensor</c>; empty where the operator has no overloads.</param>
public sealed unsafe class Operator(string name, string overload = "")
{
    // Enough for every operator that returns a fixed number of tensors; _foreach ones return one a parameter.
    private const int FixedResults = 8;
    private static long s_calls;
    private nint _handle;

    /// <summary>Operators that this process has called: what a step costs in launches.</summary>
    public static long Calls => Interlocked.Read(ref s_calls);

    /// <summary>Counts a kernel of the project's own as an operator.</summary>
    internal static void CountCall() => Interlocked.Increment(ref s_calls);

    private nint Handle
    {
        get
        {
            if (_handle == 0)
            {
                Abi.Check(Abi.FindOperator(name, overload, out _handle));
            }

            return _handle;
        }
    }

    /// <summary>Calls an operator that returns one tensor.</summary>
    /// <exception cref="TorchException">libtorch refused the call.</exception>
    public Tensor Call(params ReadOnlySpan<Argument> arguments)
    {
        var results = stackalloc NativeValue[FixedResults];
        Invoke(arguments, results, FixedResults);
        return new Tensor((nint)results[0].Bits);
    }

    /// <summary>Calls an operator that returns several tensors, or a list of at most <paramref name="most"/>.</summary>
    public Tensor[] CallMany(int most, params ReadOnlySpan<Argument> arguments)
    {
        var results = most <= 64 ? stackalloc NativeValue[most] : new NativeValue[most];
        fixed (NativeValue* first = results)
        {
            var returned = Invoke(arguments, first, most);
            var tensors = new Tensor[returned];
            for (var i = 0; i < returned; i++)
            {
                tensors[i] = new Tensor((nint)results[i].Bits);
            }

            return tensors;
        }
    }

    /// <summary>Calls an operator that changes its first argument, and gives that back.</summary>
    public Tensor CallInPlace(Tensor target, params ReadOnlySpan<Argument> rest)
    {
        var arguments = new ArgumentBuffer();
        Span<Argument> all = arguments;
        all[0] = target;
        rest.CopyTo(all[1..]);
        var results = stackalloc NativeValue[FixedResults];
        var returned = Invoke(all[..(rest.Length + 1)], results, FixedResults);
        for (var i = 0; i < returned; i++)
        {
            Abi.Check(Abi.Release((nint)results[i].Bits)); // the operator returns its argument once more
        }

        return target;
    }

    private static int ListLengths(ReadOnlySpan<Argument> arguments)
    {
        var total = 0;
        foreach (ref readonly var argument in arguments)
        {
            total += argument.List switch
            {
                null => 0,
                string => (int)(argument.Bits / sizeof(long)) + 1,
                _ => (int)argument.Bits,
            };
        }

        return total;
    }

    private static void Flatten(in Argument argument, long* list)
    {
        switch (argument.List)
        {
            case long[] numbers:
                numbers.CopyTo(new Span<long>(list, numbers.Length));
                break;
            case Tensor[] tensors:
                for (var i = 0; i < tensors.Length; i++)
                {
                    list[i] = tensors[i].LiveHandle;
                }

                break;
            case string text:
                Encoding.UTF8.GetBytes(text, new Span<byte>(list, (int)argument.Bits));
                break;
        }
    }

    private int Invoke(ReadOnlySpan<Argument> arguments, NativeValue* results, int capacity)
    {
        CountCall();
        var values = stackalloc NativeValue[arguments.Length];
        var words = ListLengths(arguments);
        Span<long> lists = words <= 256 ? stackalloc long[words] : new long[words];
        fixed (long* list = lists)
        {
            var at = list;
            for (var i = 0; i < arguments.Length; i++)
            {
                ref readonly var argument = ref arguments[i];
                values[i] = new NativeValue { Tag = argument.Tag, Bits = argument.Bits };
                if (argument.List is not null)
                {
                    Flatten(argument, at);
                    values[i].Length = (int)argument.Bits;
                    values[i].Bits = (long)at;
                    at += argument.List is string ? argument.Bits / sizeof(long) + 1 : argument.Bits;
                }
            }

            Abi.Check(Abi.Call(Handle, values, arguments.Length, results, capacity, out var returned));
            if (Spans.IsOn)
            {
                Spans.Watch(results, returned);
            }

            return returned;
        }
    }

    [InlineArray(8)]
    private struct ArgumentBuffer
    {
        private Argument _first;
    }
}
