"""The real servers on one machine: Apache Kafka and PostgreSQL, supervised."""
