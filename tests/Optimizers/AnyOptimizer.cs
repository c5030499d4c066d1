using Moe.Optimizers;
using Moe.Torch;

namespace Moe.Tests.Optimizers;

/// <summary>Every optimizer, with settings that use all of its state: what holds for any of them is tested for each.</summary>
public static class AnyOptimizer
{
    private static readonly Dictionary<string, Func<IReadOnlyList<LogicalParameter>, IdlePolicy, Optimizer>> Makers = new()
    {
        ["adamw"] = (parameters, idle) => new AdamW(parameters, new AdamWOptions(Amsgrad: true, Idle: idle)),
        ["sgd"] = (parameters, idle) => new Sgd(parameters, new SgdOptions(Momentum: 0.9, Dampening: 0.2, WeightDecay: 0.1, Idle: idle)),
        ["adabelief"] = (parameters, idle) => new AdaBelief(parameters, new AdaBeliefOptions(Amsgrad: true, Rectify: false, Idle: idle)),
        ["adabelief-rectified"] = (parameters, idle) => new AdaBelief(parameters, new AdaBeliefOptions(Beta2: 0.9, Idle: idle)),
        ["lamb"] = (parameters, idle) => new Lamb(parameters, new LambOptions(Idle: idle)),
        ["lars"] = (parameters, idle) => new Lars(parameters, new LarsOptions(Momentum: 0.9, Nesterov: true, WeightDecay: 0.1, Idle: idle)),
    };

    public static IEnumerable<string> Names => Makers.Keys;

    public static Optimizer Make(string name, IReadOnlyList<LogicalParameter> parameters, IdlePolicy idle = IdlePolicy.Reference) => Makers[name](parameters, idle);
}
