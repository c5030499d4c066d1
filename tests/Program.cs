using Moe.Tests.Distributed;

return args is [RankScenario.Command, .. var settings] ? RankScenario.Run(settings) : 0;
