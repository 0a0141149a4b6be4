"""The language both ends of the gateway speak; imports nothing else of the house."""
