# What a newcomer types. Each target sets up what it needs first; the second time that takes a second or two.

CONFIGURATION ?= Release
NODES ?= 4
CONFIG ?= configs/quickstart.yaml

.PHONY: help setup train test slurm-test bench publish format optimizers-report balancing-report clean

help:             ## these lines
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 20

setup:            ## installs what is missing, builds native and managed code
	@scripts/setup.sh

train: setup      ## trains the quickstart on four ranks and prints a sample
	dotnet run --project launch --configuration $(CONFIGURATION) --no-build -- --nodes $(NODES) --config $(CONFIG)

test:             ## the set-up, with a browser for tests of pages, and all tests
	@scripts/setup.sh --tests
	@scripts/test.sh

slurm-test: setup ## a real Slurm on this machine: signalled, requeued, resumed; installs Slurm from Debian, saying so first
	@scripts/slurm-test.sh --install

bench: setup      ## times training steps on four ranks; benchmarks/ has the comparisons
	dotnet run --project launch --configuration $(CONFIGURATION) --no-build -- bench step --nodes $(NODES) --config configs/bench/cpu-4r.yaml

publish:          ## a folder and an archive that run on a machine without a .NET SDK, see docs/gpu.md
	@scripts/publish.sh

format: setup     ## lays the code out as CI wants it
	dotnet format Trainer.sln

optimizers-report: setup  ## trains what docs/optimizers.md compares and lacks, then its tables and plots
	scripts/optimizers-report.sh

balancing-report: setup   ## trains what docs/balancing.md compares, then its tables and plot
	scripts/balancing-report.sh

clean:            ## removes what was built, not what was trained
	rm -rf native/build TestResults
	find . -type d \( -name bin -o -name obj \) -prune -exec rm -rf {} +
