"""What an op is: its signature, its checks, its derivatives by autograd and complex step."""
