"""Who may act: locks, leaders, queues of tasks and shared state, over whatever keeps them."""
