using Moe.Launch;
using Moe.Launch.Supervision;

return await LaunchProgram.RunAsync(args, LaunchHost.OfThisProcess(RankProgram.Trainer)).ConfigureAwait(false);
