"""Where methods come from. A backend is a catalogue of the method names it provides."""

from rapbench.core.catalogue import Catalogue, Entry

BACKENDS = Catalogue("backend", {"native": Entry("rapbench.methods:METHODS", "this project's own methods")})
