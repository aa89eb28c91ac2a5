"""What Prometheus and load balancers read: counts, gauges, health."""
