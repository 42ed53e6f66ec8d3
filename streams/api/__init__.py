"""The service behind the HTTP routes: implementations of `streams.ports.kafka`."""
