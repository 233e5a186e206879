"""What maps, claims and studies share: claims, settings, the map's base class, starts."""
