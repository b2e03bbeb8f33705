"""What exactly does batch normalization compute, forward, backward and at inference?"""
