"""The coherence code itself, under clocks, a network, a store and a plan made up from a seed."""
