"""What runs in the fork server and in its locked-down children: standard library only, no import of the rest."""
