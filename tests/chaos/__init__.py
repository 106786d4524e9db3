"""What calls get while parts of a gateway are killed, frozen and replaced. Slow, so they have a target of their own."""
