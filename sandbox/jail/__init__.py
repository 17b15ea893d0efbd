"""Everything that runs in the zygote and in its locked-down children: standard library only, no import of the rest."""
