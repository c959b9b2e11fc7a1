"""What Vonage sends and answers: a parser per API, a detector, errors, signatures."""
