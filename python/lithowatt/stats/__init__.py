"""How frameworks that carry the stats of a call write their keys."""
