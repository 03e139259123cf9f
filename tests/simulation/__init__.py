"""The coherence code itself, under clocks, a network, a store and a fate made up from a seed."""
