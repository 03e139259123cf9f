// Package keyfence asks Keyfence whose API key it is and what it may do, and manages keys.
//
// A key that does not pass is an answer: [Verdict.Allowed] is false and [Verdict.Reason] says
// why. An error means that there was no answer, and never that the key is bad; it is an
// [*Error], which [errors.As] finds.
//
// Make one [Client], share it between goroutines, and close it at the end.
package keyfence
