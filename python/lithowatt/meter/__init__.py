"""The meter and what it returns: `EnergyMeter`, `measure`, `Reading`, `Timeline`."""
