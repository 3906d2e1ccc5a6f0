"""The probe type `echo`. What is named here is imported when it is needed: the probe, with its driver, only where it runs."""

from exporter.probes import ProbeType

ECHO = ProbeType("sidecar_echo.settings:EchoSettings", "sidecar_echo.probe:EchoProbe")
